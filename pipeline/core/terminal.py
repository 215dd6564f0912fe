"""Text for a terminal: what others wrote is shown, and not obeyed."""

import re

# Escape sequences begin with a control character (C0, C1); bidirectional controls reorder what stands beside them.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` with the characters that a terminal would obey as escapes, \\u001b; line ends and tabs stay.

    The text of a JSON document stays one of the same value.
    """
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
