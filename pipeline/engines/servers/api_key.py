"""The key of a server, and its removal from everything that a server sends."""

import json
import os
from typing import Any

from pipeline.core.params import UserError

MARK = "[key]"
PIECE = 8  # characters in a row that are as good as the key


def read_key(variable: str) -> str:
    """The key in an environment variable, empty if there is none. Raises UserError if it cannot be sent."""
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"the key in {variable} has characters that no HTTP header can carry; export it again")
    return key


def remove_key(text: str, key: str) -> str:
    """`text` without the key, in any quoting, and without any PIECE characters of it in a row.

    A server that echoes its request and cuts it off in the middle shows a part of the key alone.
    """
    forms = sorted({key, repr(key)[1:-1], json.dumps(key)[1:-1]} - {""}, key=len, reverse=True)
    for form in forms:
        text = text.replace(form, MARK)
    for form in forms:
        pieces = {form[start : start + PIECE] for start in range(len(form) - PIECE + 1)}
        if len(form) > PIECE and any(piece in text for piece in pieces):
            text = _without_pieces(text, pieces)
    return text


def _without_pieces(text: str, pieces: set[str]) -> str:
    kept, place = [], 0
    while place < len(text):
        end = place
        while text[end : end + PIECE] in pieces:
            end += 1
        if end > place:
            kept.append(MARK)
            place = end + PIECE - 1
        else:
            kept.append(text[place])
            place += 1
    return "".join(kept)


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
