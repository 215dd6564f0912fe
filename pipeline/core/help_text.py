"""The params of a stage in its `--help`, explained by the comments of params.yaml."""

import re
import textwrap
from pathlib import Path

from pipeline.core.params import PARAMS_FILE, UserError, all_params, param_keys, param_value

WIDTH = 78
LINE = re.compile(r"( *)([\w.]+):(.*)")


def sentences(text: str) -> dict[str, str]:
    """The comment above every key of params.yaml, by dotted key."""
    comment_of: dict[str, str] = {}
    section, comment = "", list[str]()
    for line in text.splitlines():
        if line.strip().startswith("#"):
            comment.append(line.strip(" #"))
        elif match := LINE.fullmatch(line):
            indent, key, value = match.groups()
            if not indent:
                section = "" if value.strip() else f"{key}."
            comment_of[f"{section if indent else ''}{key}"] = " ".join(comment)
            comment = []
        elif not line.strip():
            comment = []
    return comment_of


def epilog(params: tuple[type, ...], file: Path = PARAMS_FILE) -> str | None:
    """The keys that a stage reads, each with its value and its comment; None where params.yaml cannot be read."""
    try:
        comments, tree = sentences(file.read_text(encoding="utf-8")), all_params(file)
        keys = dict.fromkeys(key for one in params for key in param_keys(one))
        lines = [f"Settings, from {file}; `dvc exp run -S key=value` sets one:"]
        for key in keys:
            lines.append(f"{key} = {_format(param_value(tree, key, file))}")
            lines += textwrap.wrap(comments.get(key, ""), WIDTH, initial_indent="    ", subsequent_indent="    ")
    except (OSError, UnicodeDecodeError, UserError):
        return None
    return "\b\n" + "\n".join(lines) if keys else None


def _format(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_format(one)}' for name, one in value.items())}}}"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value != "" else '""'
