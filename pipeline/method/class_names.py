"""One matcher of class names for options, rewards and scores: equal after normalising, never similar, never inside.

Keys are tried from strict to loose. A loose key that two classes share matches neither; the strictest key matches every
canonical name, so it can never become another class. Articles, generic nouns and brackets are removed from the answer,
never from a class name: "balloon" is not "balloon flower", and "12" is not "An-12".
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_APOSTROPHES = dict.fromkeys(map(ord, "'’‘‛ʼʻ′`´＇"))
# Not \b, to which the underscore of "harris's_sparrow" is a letter.
_POSSESSIVE = re.compile(rf"[{''.join(map(chr, _APOSTROPHES))}]s(?![^\W_])", re.IGNORECASE)
_SIGNS = re.compile(r"[\W_]+")
_YEAR = re.compile(r"(19|20)\d\d")
# The next word must follow at once: the A of "A. Laysan Albatross" and of "A-10" is no article.
_ARTICLE = re.compile(r"^[\W_]*(?:an?|the)[\s_]+(?=[^\W_])", re.IGNORECASE)
_GENERIC = re.compile(
    r"(?<![^\W_])(?:species|birds?|flowers?|plants?|dogs?|cats?|breed|cars?|vehicle|automobile|"
    r"aircraft|airplanes?|planes?|aeroplanes?|airliners?|jets?)[\W_]*$",
    re.IGNORECASE,
)
_BRACKETS = re.compile(r"[(\[（]([^()\[\]（）]*)[)\]）][\s.,;:!*_\"]*$")

# One for each table of names, from strict to loose.
_OVERLOOKED = ("", "spaces and hyphens", "place of the year", "s of possessive or plural", "the name's own bracket")
_AMBIGUOUS = -1
_REMEMBERED = 65536
# "cat breed species" and one more; a completion that repeats "bird" to its token limit would take seconds.
_MOST_NOUNS = 4


def normalised(text: str) -> str:
    """Words of `text`, casefolded, without diacritics and apostrophes; "&" is "and", other signs part words."""
    text = text.translate(_APOSTROPHES).replace("&", " and ")
    if text.isascii():
        return _SIGNS.sub(" ", text.lower()).strip()
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    # Combining class 200 and up are accents above and below; the lower ones are vowels of Indic scripts and the voice
    # marks of kana, without which another word remains.
    characters = (c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in letters if not _is_accent(c))
    return " ".join("".join(characters).split())


def _is_accent(character: str) -> bool:
    return unicodedata.combining(character) >= 200


def _joined(words: list[str]) -> str:
    """In one word, the year of a car first."""
    years = [word for word in words if _YEAR.fullmatch(word)]
    if len(years) == 1:
        words = [*years, *(word for word in words if word != years[0])]
    return "".join(words)


def _singular(word: str) -> str:
    # CUB writes Anna Hummingbird and Forsters Tern, people write Anna's, Annas and Forster's.
    return word[:-1] if len(word) > 3 and word.endswith("s") and word[-2] != "s" and word.isalpha() else word


def _keys(text: str) -> tuple[str, str, str, str]:
    """From strict to loose: the words; joined; year first; without the s of possessives and plurals."""
    plain = normalised(text)
    words = plain.split()
    # "Harris's" must lose its 's before the apostrophe goes: "harriss" would not meet "harris".
    base = normalised(_POSSESSIVE.sub("", text)).split()
    return plain, "".join(words), _joined(words), _joined([_singular(word) for word in base])


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
    return *_keys(name), _keys(_BRACKETS.sub("", name))[-1]


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
        keys = _keys(hit.text)
        key = (*keys, keys[-1])[hit.table]
        return [(name, index) for name, index, own_keys in self._spellings if own_keys[hit.table] == key]

    def _find(self, text: str) -> int | None:
        return _agreed(*self._hits(text))

    def _hits(self, text: str) -> tuple[_Hit | None, _Hit | None]:
        """What `text` says, and what the bracket at its end says where it had to come off."""
        hit = self._read(text, self._tables)
        brackets = _BRACKETS.search(text) if hit is None else None
        if not brackets:
            return hit, None
        # Bracket off the text or off the name, not off both: "crane (machine)" is not "crane (bird)".
        return self._read(text[: brackets.start()], self._tables[:-1]), self._read(brackets[1], self._tables[:-1])

    def _read(self, text: str, tables: Sequence[dict[str, int]]) -> _Hit | None:
        for variant in _loosened(text):
            keys = _keys(variant)
            for number, (key, table) in enumerate(zip((*keys, keys[-1]), tables, strict=False)):
                if key in table:
                    return _Hit(table[key], variant, number)
        return None


def _agreed(hit: _Hit | None, remark: _Hit | None) -> int | None:
    """The class that both name. A name inside brackets only is a remark, and names none."""
    if hit is None or hit.class_index == _AMBIGUOUS or (remark is not None and remark.class_index != hit.class_index):
        return None
    return hit.class_index
