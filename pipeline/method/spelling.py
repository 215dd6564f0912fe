"""How a name may be spelled: what is the same word, from strict to loose."""

import re
import unicodedata

_APOSTROPHES = dict.fromkeys(map(ord, "'’‘‛ʼʻ′`´＇"))
# Not \b, to which the underscore of "harris's_sparrow" is a letter.
_POSSESSIVE = re.compile(rf"[{''.join(map(chr, _APOSTROPHES))}]s(?![^\W_])", re.IGNORECASE)
_SIGNS = re.compile(r"[\W_]+")
_YEAR = re.compile(r"(19|20)\d\d")
_PLURALS_IN_ES = ("sses", "ches", "shes", "xes", "zes")


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
    if len(word) <= 3 or not word.isalpha():
        return word
    if word.endswith(_PLURALS_IN_ES):
        return word[:-2]
    if word.endswith("s") and word[-2] != "s":
        word = word[:-1]
    # "daisies" and "magpies" have lost their s, and one letter tells which was a "daisy": neither does after this.
    return word[:-2] + "y" if len(word) > 4 and word.endswith("ie") else word


def spelling_keys(text: str) -> tuple[str, str, str, str]:
    """From strict to loose: the words; joined; year first; without the s of possessives and plurals."""
    plain = normalised(text)
    words = plain.split()
    # "Harris's" must lose its 's before the apostrophe goes: "harriss" would not meet "harris".
    base = normalised(_POSSESSIVE.sub("", text)).split()
    return plain, "".join(words), _joined(words), _joined([_singular(word) for word in base])
