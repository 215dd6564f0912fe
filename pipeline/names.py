"""One matcher of class names for options, rewards and scores: equal after normalising, never similar, never inside.

Keys are tried from strict to loose. A loose key that two classes share is not used; every canonical name is found by
the strictest key, so it can never become another class.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

GENERIC = frozenset(
    [
        *("species", "bird", "flower", "plant", "dog", "cat", "breed"),
        *("car", "vehicle", "automobile", "aircraft", "airplane", "aeroplane", "plane"),
    ]
)
"""Nouns that people add to a name: "Laysan albatross bird"."""

_ARTICLE = re.compile(r"^(an?|the) (?=.)")
_PARENTHESIS = re.compile(r"\s*[(\[][^()\[\]]*[)\]]\s*$")
_APOSTROPHES = dict.fromkeys(map(ord, "'’‘ʼ`´"))
_YEAR = re.compile(r"(19|20)\d\d")


def _plain(text: str) -> str:
    """Lower case without diacritics and apostrophes, every other sign a space."""
    letters = unicodedata.normalize("NFKD", text.translate(_APOSTROPHES)).casefold()
    letters = "".join(c if c.isalnum() else "" if unicodedata.combining(c) else " " for c in letters)
    return " ".join(letters.split())


def _year_first(plain: str) -> str:
    words = plain.split()
    years = [word for word in words if _YEAR.fullmatch(word)]
    if len(years) != 1:
        return plain
    words.remove(years[0])
    return " ".join([*years, *words])


def _bare(text: str) -> str:
    """Without a closing parenthesis and a leading article."""
    return _ARTICLE.sub("", _plain(_PARENTHESIS.sub("", text)))


def _specific(text: str) -> str:
    """Without the generic nouns at the end, unless nothing else is there."""
    words = _bare(text).split()
    while len(words) > 1 and words[-1] in GENERIC:
        words.pop()
    return " ".join(words)


def _singular(text: str) -> str:
    """Without the s of possessives and plurals: CUB writes Anna Hummingbird, people write Anna's and Annas."""
    words = _specific(text).split()
    return " ".join(word[:-1] if len(word) > 3 and word.endswith("s") and word[-2] != "s" else word for word in words)


_KEYS: tuple[Callable[[str], str], ...] = (
    _plain,
    lambda text: _plain(text).replace(" ", ""),
    lambda text: _year_first(_plain(text)).replace(" ", ""),
    lambda text: _year_first(_bare(text)).replace(" ", ""),
    lambda text: _year_first(_specific(text)).replace(" ", ""),
    lambda text: _year_first(_singular(text)).replace(" ", ""),
)

_AMBIGUOUS = -1


class Matcher:
    """Finds the class that a text names.

    Args:
        names: canonical class names; `match` gives an index into them.
        aliases: other names, each with the canonical name that it stands for.

    Raises:
        ValueError: a name is empty, two names are the same, or an alias stands for no name or is another class's name.
    """

    def __init__(self, names: Sequence[str], aliases: Mapping[str, str] = {}):
        index = {name: i for i, name in enumerate(names)}
        self._tables: list[dict[str, int]] = [{} for _ in _KEYS]
        for i, name in enumerate(names):
            self._add_name(name, i, names)
        for alias, name in aliases.items():
            if name not in index:
                raise ValueError(
                    f"alias {alias!r} stands for {name!r}, which is not among the {len(names)} class names"
                )
            if self._tables[0].get(_plain(alias), index[name]) != index[name]:
                raise ValueError(f"alias {alias!r} of {name!r} is also the name of another class")
            self._add(alias, index[name])
        # Completions repeat the same few names over and over.
        self._cached = lru_cache(maxsize=65536)(self._find)

    def _add_name(self, name: str, index: int, names: Sequence[str]) -> None:
        plain = _plain(name)
        if not plain:
            raise ValueError(f"class name {name!r} has neither letter nor digit")
        if plain in self._tables[0]:
            raise ValueError(f"class names {names[self._tables[0][plain]]!r} and {name!r} cannot be told apart")
        self._add(name, index)

    def _add(self, name: str, index: int) -> None:
        # A loose table holds the strict keys too: "the An 12" loses its article, the aircraft An-12 must not.
        keys: list[str] = []
        for key, table in zip(_KEYS, self._tables, strict=True):
            keys.append(key(name))
            for found in keys:
                table[found] = index if table.get(found, index) == index else _AMBIGUOUS

    def match(self, text: str | None) -> int | None:
        """Index of the class that `text` names, or None where it names none or could name two."""
        return None if text is None else self._cached(text)

    def _find(self, text: str) -> int | None:
        for key, table in zip(_KEYS, self._tables, strict=True):
            found = key(text)
            if found and found in table:
                return None if table[found] == _AMBIGUOUS else table[found]
        return None
