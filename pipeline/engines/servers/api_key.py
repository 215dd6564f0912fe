"""The key of a server, and its removal from everything that a server sends."""

import json
import os
from typing import Any

from pipeline.core.params import UserError


def read_key(variable: str) -> str:
    """The key in an environment variable, empty if there is none. Raises UserError if it cannot be sent."""
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"the key in {variable} has characters that no HTTP header can carry; export it again")
    return key


def remove_key(text: str, key: str) -> str:
    """`text` without the key, in any quoting."""
    for form in {key, repr(key)[1:-1], json.dumps(key)[1:-1]} - {""}:
        text = text.replace(form, "[key]")
    return text


def clean(value: Any, key: str) -> Any:
    """Decoded JSON of a server without the key, in any of its texts, and without lone surrogates, which no file holds.

    Raises RecursionError for a value that is nested too deep.
    """
    if isinstance(value, str):
        return remove_key(value.encode("utf-8", "replace").decode("utf-8"), key)
    if isinstance(value, list):
        return [clean(one, key) for one in value]
    if isinstance(value, dict):
        return {clean(name, key): clean(one, key) for name, one in value.items()}
    return value
