"""The key of a server, and its removal from everything that a server sends."""

import functools
import json
import os
from collections.abc import Collection
from typing import Any

from pipeline.core.params import UserError

MARK = "[key]"
SHORTEST = 8  # characters: what is shorter ("x", "none") is no secret, and occurs in any text
PIECE = 12  # characters in a row that are as good as a key of at least LONG
LONG = 20


def read_key(variable: str) -> str:
    """The key in an environment variable, empty if there is none. Raises UserError if it cannot be sent."""
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"the key in {variable} has characters that no HTTP header can carry; export it again")
    return key


def remove_key(text: str, key: str) -> str:
    """`text` without the key, in any quoting; of a long key without any PIECE characters in a row.

    A server that echoes its request and breaks off in the middle shows a part of the key alone.
    """
    forms, pieces = _forms(key)
    if len(text) < SHORTEST:
        return text
    for form in forms:
        text = text.replace(form, MARK)
    return _without_pieces(text, pieces) if any(piece in text for piece in pieces) else text


@functools.cache
def _forms(key: str) -> tuple[list[str], frozenset[str]]:
    """The key as texts quote it, the longest first, and the pieces of it that must not be shown."""
    if len(key) < SHORTEST:
        return [], frozenset()
    forms = sorted({key, repr(key)[1:-1], json.dumps(key)[1:-1]}, key=len, reverse=True)
    starts = [(form, start) for form in forms if len(key) >= LONG for start in range(len(form) - PIECE + 1)]
    return forms, frozenset(form[start : start + PIECE] for form, start in starts)


def _without_pieces(text: str, pieces: Collection[str]) -> str:
    kept, place = [], 0
    while place < len(text):
        end = place
        while text[end : end + PIECE] in pieces:
            end += 1
        kept.append(MARK if end > place else text[place])
        place = end + PIECE - 1 if end > place else place + 1
    return "".join(kept)


def clean(value: Any, key: str) -> Any:
    """Decoded JSON of a server without the key, in any of its texts, and without lone surrogates, which no file holds.

    Names that hold the key are left out. Raises RecursionError for a value that is nested too deep.
    """
    if isinstance(value, str):
        return remove_key(value.encode("utf-8", "replace").decode("utf-8"), key)
    if isinstance(value, list):
        return [clean(one, key) for one in value]
    if isinstance(value, dict):
        return {name: clean(one, key) for name, one in value.items() if remove_key(name, key) == name}
    return value
