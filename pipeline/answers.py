"""Strict reading of completions: what stands in <answer>, and which of the offered letters it chooses.

A doubt is never settled in the model's favour: what can be read in two ways is not an answer.
"""

import re
from collections.abc import Sequence
from string import ascii_uppercase

from pipeline.names import Matcher

_FORMAT = re.compile(r"\s*<think>(.*?)</think>\s*<answer>(.*?)</answer>\s*", re.DOTALL)
_TAG = re.compile(r"</?\s*(think|answer)\s*>", re.IGNORECASE)
_OPEN = re.compile(r"<\s*answer\s*>", re.IGNORECASE)
_BLOCK = re.compile(r"<\s*answer\s*>((?:(?!<\s*/?\s*answer\s*>).)*)<\s*/\s*answer\s*>", re.IGNORECASE | re.DOTALL)
_THINK = re.compile(r"<\s*(/?)\s*think\s*>", re.IGNORECASE)

_WRAPPED = re.compile(r"\\(?:boxed|text|textbf|mathrm)\s*\{([^{}]*)\}")
_LEAD = re.compile(
    r"^(?:so|therefore|thus)?,?\s*(?:i (?:choose|pick|select)|it is|it's|this is|that is|my answer is|"
    r"(?:the )?(?:(?:correct|right|best|final|most likely) )?(?:answer|option|choice)(?: is\b|\s*[:=])?)\s*[:=]?\s*",
    re.IGNORECASE,
)
_LETTER = re.compile(r"^[(\[{]?\s*([A-Za-z])\s*[)\]}]?(?:\s*[-.:–—)]+\s*|\s+|$)(.*)$", re.DOTALL)
_SEPARATED = re.compile(r"^(?:[(\[{]\s*[A-Za-z]\s*[)\]}]|[A-Za-z]\s*[-.:–—)])")


def well_formed(completion: str) -> bool:
    """Whether `completion` is <think>…</think><answer>…</answer>, each tag once, and nothing around but white space."""
    return _FORMAT.fullmatch(completion) is not None and len(_TAG.findall(completion)) == 4


def answer_text(completion: str) -> str | None:
    """The text inside <answer>…</answer>, stripped; None where there is none or no single one.

    What stands inside <think> does not count, nor does anything outside <answer>. Blocks that repeat the same answer
    are one answer, different ones are none. An answer that is not closed was cut off, and is none.
    """
    thoughts = list(_THINK.finditer(completion))
    if thoughts and not thoughts[-1].group(1):
        return None
    said = completion[thoughts[-1].end() :] if thoughts else completion
    blocks = [block.strip() for block in _BLOCK.findall(said)]
    if len(blocks) != len(_OPEN.findall(said)):
        return None
    return blocks[0] or None if len(set(blocks)) == 1 else None


def letter(completion: str, options: Sequence[str]) -> str | None:
    """The letter that `completion` chooses among `options` (A is the first), or None.

    Read are a letter alone (`B`, `(B)`, `[b]`, `**B**`, `B.`, `\\boxed{B}`), a letter with its own option's text, and
    an option's text alone. A letter with another option's text, two letters, or a letter that is not offered is None.
    "A Laysan Albatross" is that option's text after an article, not the letter A.
    """
    answer = answer_text(completion)
    if answer is None:
        return None
    offered = ascii_uppercase[: len(options)]
    text = _undressed(answer)
    if len(text) == 1:
        return text.upper() if text.upper() in offered else None
    matcher = Matcher(options)
    named = matcher.match(text)
    if named is not None and not _names_after_letter(text, matcher):
        return offered[named]
    return _lettered(text, options, offered, matcher)


def _undressed(answer: str) -> str:
    """Without LaTeX, Markdown, quotes, a lead-in such as "The answer is", and a final full stop."""
    text = answer
    while (bare := _WRAPPED.sub(r"\1", text)) != text:
        text = bare
    text = re.sub(r"[*`$\"“”_]|(?<!\w)'|'(?!\w)", " ", text)
    text = " ".join(text.split())
    while (bare := _LEAD.sub("", text, count=1)) != text and bare:
        text = bare
    text = text.strip().rstrip(".,;:!").strip()
    inner = re.fullmatch(r"[(\[{]\s*(.*?)\s*[)\]}]", text)
    return inner.group(1) if inner else text


def _names_after_letter(text: str, matcher: Matcher) -> bool:
    """Whether `text` is a letter, a separator and an option: "A. Laysan Albatross" is no article."""
    found = _LETTER.match(text)
    return found is not None and _SEPARATED.match(text) is not None and matcher.match(found.group(2)) is not None


def _lettered(text: str, options: Sequence[str], offered: str, matcher: Matcher) -> str | None:
    """A letter followed by words."""
    found = _LETTER.match(text)
    if found is None or found.group(1).upper() not in offered:
        return None
    chosen, rest = found.group(1).upper(), _undressed(found.group(2))
    if not rest:
        return chosen
    named, own = matcher.match(rest), offered.index(chosen)
    if named is not None:
        return chosen if named == own else None
    # Words that name no option may explain a choice ("B. dark bill"), but not where they bring up another one.
    others = [letter for letter in offered if letter != chosen]
    mentions = any(re.search(rf"\b{other}\b", rest) for other in others) or any(
        name.casefold() in rest.casefold() for i, name in enumerate(options) if i != own
    )
    return chosen if _SEPARATED.match(text) and not mentions else None
