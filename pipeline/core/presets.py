"""The presets: settings of params.yaml that belong together, for one model and one machine."""

from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.yaml_text import load_yaml

FOLDER = Path("presets")
BASE = "base"  # key of a preset that names the preset whose values it starts from


def preset_names() -> list[str]:
    """The names of all presets, also for shell completion."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def preset_file(name: str) -> Path:
    """The file of a preset, given by name or path. Raises UserError where there is none."""
    file = Path(name) if name.endswith(".yaml") else FOLDER / f"{name}.yaml"
    if not file.is_file():
        raise UserError(f"there is no preset {name!r}; use a path, or one of {', '.join(preset_names())}")
    return file


def preset_values(file: Path) -> dict[str, Any]:
    """The values of a preset over those of its base, if it has one.

    Raises:
        UserError: its base is no preset, or has a base itself.
    """
    values = _read(file)
    if BASE not in values:
        return values
    base = _read(preset_file(str(values.pop(BASE))))
    if BASE in base:
        raise UserError(
            f"{file}: its base has a base itself, expected a preset without one, such as paper; edit {file}"
        )
    return merged(base, values)


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """The values of two trees; where both have one, that of `above`."""
    both = below | above
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            both[key] = merged(below[key], above[key])
    return both


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    values = load_yaml(text, str(file), "presets/paper.yaml is an example")
    if not isinstance(values, dict):
        raise UserError(f"{file}: no keys, expected settings of params.yaml; presets/paper.yaml is an example")
    return values


def preset_for(model: str) -> str | None:
    """The preset of a hub model, or the first of its family; None for an unknown family.

    `Qwen/Qwen2.5-VL-7B-Instruct` → `qwen2.5-vl-7b`, `Qwen/Qwen2.5-VL-32B-Instruct` → `qwen2.5-vl-3b`.
    """
    name = model.rpartition("/")[2].lower().replace("_", ".")  # InternVL3_5
    family = [preset for preset in preset_names() if "-" in preset and name.startswith(preset.rpartition("-")[0])]
    return next((preset for preset in family if name.startswith(preset)), next(iter(family), None))
