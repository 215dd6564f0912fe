"""Write a preset's values into params.yaml."""

import io
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.core.files import write_text
from pipeline.core.params import PARAMS_FILE, UserError

FOLDER = Path("presets")


def differences(values: Any, preset: Any, above: str = "") -> list[tuple[str, Any, Any]]:
    """Dotted key, present value and the preset's, for every value that differs. Raises UserError for an unknown key."""
    found = []
    for key, wanted in preset.items():
        dotted = f"{above}{key}"
        if not isinstance(values, dict) or key not in values:
            raise UserError(
                f"the preset sets {dotted}, which params.yaml does not have; `git diff` shows what is missing"
            )
        if isinstance(wanted, dict):
            found += differences(values[key], wanted, f"{dotted}.")
        elif values[key] != wanted:
            found.append((dotted, values[key], wanted))
    return found


def known_presets() -> list[str]:
    """The presets that there are, for a shell that completes them."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def preset(
    name: Annotated[
        str,
        typer.Argument(
            help="A preset: the name of a file in presets/, without .yaml, or a path.", autocompletion=known_presets
        ),
    ],
    dry: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
) -> None:
    """Write a preset's values into params.yaml, and show what they changed."""
    from ruamel.yaml import YAML

    file = Path(name) if name.endswith(".yaml") else FOLDER / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.yaml")))
        raise UserError(f"no preset {name!r}, wanted one of {known}, or a path; `python -m pipeline preset paper`")
    yaml = YAML()  # keeps comments and the order of the keys
    yaml.preserve_quotes = True
    yaml.width = 4096
    values = yaml.load(PARAMS_FILE.read_text())
    changes = differences(values, YAML(typ="safe", pure=True).load(file.read_text()))
    for dotted, before, after in changes:
        *above, last = dotted.split(".")
        place = values
        for key in above:
            place = place[key]
        place[last] = after
        print(f"{dotted}: {before} → {after}")
    if not changes:
        print(f"params.yaml has all values of {file} already")
    elif not dry:
        written = io.StringIO()
        yaml.dump(values, written)
        write_text(PARAMS_FILE, written.getvalue())
        print(f"{len(changes)} values of {file} written to {PARAMS_FILE}; `git diff` shows them, `dvc repro` uses them")
