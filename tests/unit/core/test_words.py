"""Counts in sentences."""

from pipeline.core.words import counted


def test_one_is_singular_and_thousands_have_a_comma():
    assert [counted(n, "pair") for n in (0, 1, 2, 12345)] == ["0 pairs", "1 pair", "2 pairs", "12,345 pairs"]
    assert counted(1, "class", "classes") == "1 class" and counted(2, "class", "classes") == "2 classes"
