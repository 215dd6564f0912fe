"""The settings of a stage in its `--help`, with the comments of params.yaml, which is the manual."""

import re
import textwrap
from pathlib import Path

from pipeline.core.params import PARAMS_FILE, UserError, all_params, param_keys, param_value

WIDTH = 78
LINE = re.compile(r"( *)([\w.]+):(.*)")


def sentences(text: str) -> dict[str, str]:
    """The comment above every key of params.yaml, by its dotted name."""
    sentence_of: dict[str, str] = {}
    section, above = "", list[str]()
    for line in text.splitlines():
        if line.strip().startswith("#"):
            above.append(line.strip(" #"))
        elif match := LINE.fullmatch(line):
            indent, key, value = match.groups()
            if not indent:
                section = "" if value.strip() else f"{key}."
            sentence_of[f"{section if indent else ''}{key}"] = " ".join(above)
            above = []
        elif not line.strip():
            above = []
    return sentence_of


def epilog(settings: tuple[type, ...], file: Path = PARAMS_FILE) -> str | None:
    """The settings that a stage reads, each with its present value and its sentences; None without params.yaml."""
    try:
        known, tree = sentences(file.read_text()), all_params(file)
        keys = dict.fromkeys(key for one in settings for key in param_keys(one))
        lines = [f"Settings, from {file}; `dvc exp run -S key=value` sets one:"]
        for key in keys:
            lines.append(f"{key} = {_shown(param_value(tree, key, file))}")
            lines += textwrap.wrap(known.get(key, ""), WIDTH, initial_indent="    ", subsequent_indent="    ")
    except (OSError, UnicodeDecodeError, UserError):
        return None
    return "\b\n" + "\n".join(lines) if keys else None


def _shown(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value != "" else '""'
