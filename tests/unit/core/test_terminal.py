"""What others wrote is shown in a terminal, and not obeyed."""

import json
import unicodedata

import pytest

from pipeline.core.terminal import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode 鳥\n\t|", "plain ünïcode 鳥\n\t|"),
        ("\x1b[31mred\x07", "\\u001b[31mred\\u0007"),
        ("\x9b31m \x7f \x85", "\\u009b31m \\u007f \\u0085"),
        ("a\u202eb\u2066c\u200f", "a\\u202eb\\u2066c\\u200f"),
        ("\r\x08hidden", "\\u000d\\u0008hidden"),
        ("\ud800", "\\ud800"),
    ],
)
def test_control_characters_are_shown_as_escapes(text, shown):
    assert printable(text) == shown


def test_no_character_that_moves_or_reorders_is_left():
    everything = "".join(map(chr, range(0x3000)))
    rest = set(printable(everything)) - {"\n", "\t"}
    assert not [character for character in rest if unicodedata.category(character) in ("Cc", "Cs")]
    assert not [
        c for c in rest if unicodedata.bidirectional(c) in ("RLE", "LRE", "RLO", "LRO", "PDF", "RLI", "LRI", "FSI")
    ]


def test_a_json_document_keeps_its_value():
    value = {"text": "\x1b[31m\u202e\x9b\x7f\u2028 ü"}
    text = printable(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value and "\x9b" not in text
