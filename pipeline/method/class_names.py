"""One matcher of class names for options, rewards and scores: equal after normalising, never similar, never inside.

Keys are tried from strict to loose. A loose key that two classes share matches neither; the strictest key matches every
canonical name, so it can never become another class. Articles, generic nouns and brackets are removed from the answer,
never from a class name: "balloon" is not "balloon flower", and "12" is not "An-12".
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.method.spelling import normalised, spelling_keys

# The next word must follow at once: the A of "A. Laysan Albatross" and of "A-10" is no article.
_ARTICLE = re.compile(r"^[\W_]*(?:an?|the)[\s_]+(?=[^\W_])", re.IGNORECASE)
_GENERIC = re.compile(
    r"(?<![^\W_])(?:species|birds?|flowers?|plants?|dogs?|cats?|breed|cars?|vehicle|automobile|"
    r"aircraft|airplanes?|planes?|aeroplanes?|airliners?|jets?)[\W_]*$",
    re.IGNORECASE,
)
# A remark in brackets that takes the name back, or puts another beside it; a question mark at the end doubts it.
_TAKEN_BACK = re.compile(
    r"\b(?:not|no|nor|never|neither|isn['’]?t|ruled\s+out|excluded?|excluding|incorrect|wrong|false|unlikely|unlike|"
    r"unsure|uncertain|maybe|perhaps|possibly|rather|instead|versus|vs)\b|\?",
    re.IGNORECASE,
)
_ALTERNATIVE = re.compile(r"^\W*(?:or|and/or)\b", re.IGNORECASE)
_DOUBT = re.compile(r"\?[\s\"'”’*_)\]}.!]*$")
_BRACKETS = re.compile(r"[(\[（]([^()\[\]（）]*)[)\]）][\s.,;:!*_\"]*$")

# One for each table of names, from strict to loose.
_OVERLOOKED = ("", "spaces and hyphens", "place of the year", "s of possessive or plural", "the name's own bracket")
_AMBIGUOUS = -1
_REMEMBERED = 65536
# "cat breed species" and one more; a completion that repeats "bird" to its token limit would take seconds.
_MOST_NOUNS = 4


def _loosened(text: str) -> Iterator[str]:
    """`text`, then without its article and its generic nouns, one after the other, as long as a word is left."""
    for _ in range(_MOST_NOUNS + 1):
        if not normalised(text):
            return
        yield text
        bare = _ARTICLE.sub("", text)
        if bare != text:
            yield bare
        shorter = _GENERIC.sub("", text)
        if shorter == text:
            return
        text = shorter


def _name_keys(name: str) -> tuple[str, str, str, str, str]:
    """The keys that match a name: those of any text, then the loosest without its closing bracket."""
    return *spelling_keys(name), spelling_keys(_BRACKETS.sub("", name))[-1]


class _Hit(NamedTuple):
    """A match: a class or _AMBIGUOUS, for which part of the text, in which table."""

    class_index: int
    text: str
    table: int


@dataclass(frozen=True)
class Explanation:
    """Why a text names its class, or none.

    Attributes:
        index: what `Matcher.match` gives.
        spellings: the class names and aliases that the text matches, with their indices; of two or more classes if it
            could name either, empty if it names none.
        read_as: the part of the text that says so; "" where it names none.
        overlooked: what had to be overlooked besides case, accents and signs; "" where nothing had to be.
    """

    index: int | None
    spellings: tuple[tuple[str, int], ...] = ()
    read_as: str = ""
    overlooked: str = ""


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
        # The last table holds names without their closing bracket.
        self._tables: list[dict[str, int]] = [{} for _ in range(5)]
        # Completions repeat the same few names over and over. Not lru_cache: a matcher must go to worker processes.
        self._known: dict[str, int | None] = {}
        self._spellings: list[tuple[str, int, tuple[str, ...]]] = []
        self._names = frozenset((*names, *aliases))  # one may end with a question mark
        for i, name in enumerate(names):
            plain = normalised(name)
            if not plain:
                raise ValueError(f"class name {name!r} has neither letter nor digit")
            if plain in self._tables[0]:
                raise ValueError(f"class names {names[self._tables[0][plain]]!r} and {name!r} cannot be distinguished")
            self._add(name, i)
        for alias, name in aliases.items():
            if name not in index:
                raise ValueError(
                    f"alias {alias!r} stands for {name!r}, which is not among the {len(names)} class names"
                )
            if self._tables[0].get(normalised(alias), index[name]) != index[name]:
                raise ValueError(f"alias {alias!r} of {name!r} is also the name of another class")
            self._add(alias, index[name])

    def _add(self, name: str, index: int) -> None:
        keys = _name_keys(name)
        self._spellings.append((name, index, keys))
        for key, table in zip(keys, self._tables, strict=True):
            table[key] = index if table.get(key, index) == index else _AMBIGUOUS

    def match(self, text: str | None) -> int | None:
        """Index of the class that `text` names, or None where it names none or could name two."""
        if text is None:
            return None
        if text not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[text] = self._find(text)
        return self._known[text]

    def explain(self, text: str) -> Explanation:
        """What `match` finds in `text`, and why."""
        hit, remark = self._hits(text)
        if hit is None:
            return Explanation(None)
        hits = [hit] if remark is None else [hit, remark]
        spellings = dict.fromkeys(spelling for hit in hits for spelling in self._spelled(hit))
        return Explanation(_agreed(hit, remark), tuple(spellings), hit.text.strip(), _OVERLOOKED[hit.table])

    def _spelled(self, hit: _Hit) -> list[tuple[str, int]]:
        """The names and aliases, with their indices, that share the key of `hit`."""
        keys = spelling_keys(hit.text)
        key = (*keys, keys[-1])[hit.table]
        return [(name, index) for name, index, own_keys in self._spellings if own_keys[hit.table] == key]

    def _find(self, text: str) -> int | None:
        return _agreed(*self._hits(text))

    def _hits(self, text: str) -> tuple[_Hit | None, _Hit | None]:
        """What `text` says, and what the bracket at its end says where it had to come off."""
        hit = self._read(text, self._tables)
        if hit is not None and _DOUBT.search(text) and text.strip() not in self._names:
            return None, None
        brackets = _BRACKETS.search(text) if hit is None else None
        if not brackets:
            return hit, None
        # Bracket off the text or off the name, not off both: "crane (machine)" is not "crane (bird)".
        hit = self._read(text[: brackets.start()], self._tables[:-1])
        if _TAKEN_BACK.search(brackets[1]) or _DOUBT.search(text):
            return None, None
        alternative = _ALTERNATIVE.match(brackets[1])
        remark = self._read(brackets[1][alternative.end() :] if alternative else brackets[1], self._tables[:-1])
        return (None, None) if alternative and remark is None else (hit, remark)

    def _read(self, text: str, tables: Sequence[dict[str, int]]) -> _Hit | None:
        for variant in _loosened(text):
            keys = spelling_keys(variant)
            for number, (key, table) in enumerate(zip((*keys, keys[-1]), tables, strict=False)):
                if key in table:
                    return _Hit(table[key], variant, number)
        return None


def _agreed(hit: _Hit | None, remark: _Hit | None) -> int | None:
    """The class that both name. A name inside brackets only is a remark, and names none."""
    if hit is None or hit.class_index == _AMBIGUOUS or (remark is not None and remark.class_index != hit.class_index):
        return None
    return hit.class_index
