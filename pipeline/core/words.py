"""Counts and lists in sentences."""

from collections.abc import Sequence


def counted(number: int, noun: str, plural: str = "") -> str:
    """1 image, 1,234 images."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def some(names: Sequence[str], shown: int) -> str:
    """a, b, c and 4 more: the first `shown` names, and how many are left out."""
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return f"{', '.join(names[:shown])}{more}"
