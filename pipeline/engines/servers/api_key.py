"""The key of a server, and its removal from every text."""

import json
import os

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
