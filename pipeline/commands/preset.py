"""Write a preset's values into params.yaml."""

import io
from typing import Annotated, Any

import typer

from pipeline.core.files import write_text
from pipeline.core.params import PARAMS_FILE, UserError, all_params, known_keys
from pipeline.core.presets import preset_file, preset_names, preset_values
from pipeline.core.words import counted


def differences(values: Any, preset: Any, above: str = "") -> list[tuple[str, Any, Any]]:
    """Dotted key, present value and new value, where they differ. Raises UserError for an unknown key."""
    changes = []
    for key, value in preset.items():
        dotted = f"{above}{key}"
        if not isinstance(values, dict) or key not in values:
            raise UserError(
                f"the preset sets {dotted}, which is not a key of params.yaml; `git diff` shows whether it was removed"
            )
        if isinstance(value, dict) and dotted not in known_keys():
            changes += differences(values[key], value, f"{dotted}.")
        elif values[key] != value:
            changes.append((dotted, values[key], value))
    return changes


def preset(
    name: Annotated[
        str,
        typer.Argument(help="Name of a file in presets/ without .yaml, or a path.", autocompletion=preset_names),
    ],
    dry: Annotated[bool, typer.Option("--dry-run", help="Only show the changes.")] = False,
) -> None:
    """Write the values of a preset into params.yaml, and show the changes."""
    from ruamel.yaml import YAML

    file = preset_file(name)
    yaml = YAML()  # keeps comments and the order of the keys
    yaml.preserve_quotes = True
    yaml.width = 4096
    all_params()  # a mistake in it is one sentence
    values = yaml.load(PARAMS_FILE.read_text(encoding="utf-8"))
    changes = differences(values, preset_values(file))
    for dotted, before, after in changes:
        *above, last = dotted.split(".")
        section = values
        for key in above:
            section = section[key]
        section[last] = after
        print(f"{dotted}: {before} → {after}")
    if not changes:
        print(f"params.yaml already has all values of {file}")
    elif not dry:
        text = io.StringIO()
        yaml.dump(values, text)
        write_text(PARAMS_FILE, text.getvalue())
        values_text = counted(len(changes), "value")
        print(f"{values_text} of {file} written to {PARAMS_FILE}; `git diff` shows them, `dvc repro` uses them")
