"""Strict parsing of completions: the text inside <answer>, and which of the offered letters it chooses.

An ambiguous answer is never resolved in the model's favour: what can be read in two ways is no answer.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from html import unescape
from string import ascii_uppercase

from pipeline.method.class_names import Matcher

_TAG = re.compile(r"<\s*(/\s*)?(think|answer)\s*>", re.IGNORECASE)
_EMPTY_THOUGHT = re.compile(r"\A\s*<think>\s*</think>")
_FORMAT = ["<think>", "</think>", "<answer>", "</answer>"]

# What models leave in an answer that is no part of it: special tokens of chat templates, simple HTML, and characters
# that show nothing (zero-width ones, direction marks, soft hyphens).
_MARKUP = re.compile(
    r"<\|[^<>|]{1,40}\|>|</?s>|<(?:eos|bos|pad|unk|(?:start|end)_of_(?:turn|text|utterance))>|"
    r"</?(?:b|i|u|em|strong|p|span|code|mark)>|<br ?/?>",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[\da-f]{1,6}|[a-z]{2,8}\d?);", re.IGNORECASE)
_INVISIBLE = dict.fromkeys(
    [0xAD, 0x61C, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF]
)

# Chinese keyboards, and models trained on such text, write （Ｂ）。 and 【B】.
_FULLWIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {ord("。"): "."}
_FULLWIDTH |= dict(zip(map(ord, "【】「」『』〔〕"), "[][][][]", strict=True))
_WRAPPED = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_NESTED = re.compile(r"\{\s*\{([^{}]*)\}\s*\}")
_DECORATION = re.compile(r"\\[()\[\]]|[*`$\"“”_]|(?<!\w)['‘’]|['‘’](?!\w)|^\s*(?:#{1,6}|[>•·–-])(?=\s)")
_LEAD = re.compile(
    r"^(?:(?:so|therefore|thus)\b,?\s*)?(?:i (?:choose|pick|select)\b|(?:it|this|that) is\b|it['’]s\b|"
    r"(?:the |my )?(?:(?:correct|right|best|final|most likely) )?(?:answer|option|choice)\b(?: is\b)?|"
    r"我?(?:選擇|选择|選|选)|(?:正確|正确|最終|最终)?(?:的)?答案(?:是|為|为)?|"
    r"die (?:richtige )?antwort (?:ist|lautet)\b|la (?:bonne )?réponse est\b|la respuesta (?:correcta )?es\b)"
    r"\s*[:=]?\s*",
    re.IGNORECASE,
)
_LETTER = re.compile(r"[(\[{]?\s*([A-Za-z])(?![^\W_]|['’])\s*[)\]}]?[\s\-.:,=–—)]*(.*)", re.DOTALL)
_LAST = re.compile(r"[(\[]\s*([A-Za-z])\s*[)\]]$")


def well_formed(completion: str, thought: bool = True) -> bool:
    """Whether `completion` is <think>…</think><answer>…</answer>, each tag once, and nothing around but white space.

    Without `thought` it must be <answer>…</answer> alone; an empty thought, which chat templates write, may precede it.
    """
    text = completion if thought else _EMPTY_THOUGHT.sub("", completion)
    tags = list(_TAG.finditer(text))
    if [tag.group() for tag in tags] != (_FORMAT if thought else _FORMAT[2:]):
        return False
    edges = [0, *(tag.end() if tag[1] else tag.start() for tag in tags), len(text)]
    return not "".join(text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)).strip()


def answer_text(completion: str) -> str | None:
    """The text inside <answer>…</answer>, stripped; None where there is none or no single one.

    What stands inside <think> does not count, nor does anything outside <answer>. Blocks that repeat the same answer
    are one answer, different ones are none. An answer that is not closed was cut off, and is none. Special tokens,
    simple HTML, a code fence or a LaTeX box around all of it, and characters that show nothing are left out; HTML
    entities are the characters that they stand for.
    """
    span = answer_span(completion)
    return _without_markup(completion[slice(*span)]) or None if span else None


def _without_markup(text: str) -> str:
    text = _ENTITY.sub(lambda entity: unescape(entity[0]), text)
    text = _MARKUP.sub(" ", text).translate(_INVISIBLE).strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        text = text.partition("\n")[2].removesuffix("```").strip()
    boxed = _WRAPPED.fullmatch(text) or _WRAPPED.fullmatch(_NESTED.sub(r"{\1}", text.strip("$ ")))
    return _without_markup(boxed[1]) if boxed else text


def answer_span(completion: str) -> tuple[int, int] | None:
    """Where in `completion` the text inside <answer> begins and ends; None where `answer_text` reads none."""
    tags = list(_TAG.finditer(completion))
    thoughts = [place for place, tag in enumerate(tags) if tag[2].lower() == "think"]
    if thoughts and not tags[thoughts[-1]][1]:
        return None
    answer_tags = tags[thoughts[-1] + 1 :] if thoughts else tags
    opening, closing = answer_tags[::2], answer_tags[1::2]
    if len(opening) != len(closing) or any(tag[1] for tag in opening) or not all(tag[1] for tag in closing):
        return None
    spans = [(start.end(), end.start()) for start, end in zip(opening, closing, strict=True)]
    blocks = {completion[slice(*span)].strip() for span in spans}
    return spans[0] if len(blocks) == 1 and any(blocks) else None


def letter(completion: str, options: Sequence[str]) -> str | None:
    """The letter that `completion` chooses among `options` (A is the first, at most 26 are offered), or None.

    Read are a letter alone (`B`, `(B)`, `[b]`, `**B**`, `B.`, `\\boxed{B}`), a letter with its own option's text, and
    an option's text alone. A letter with another option's text, two letters, or a letter that is not offered is None.
    "A Laysan Albatross" is that option's text after an article, not the letter A. A letter with words that name no
    option is None too: whether they explain the choice or take it back is not for a parser to guess.

    Raises:
        ValueError: words must be compared with the options, and two options cannot be distinguished or one is empty.
    """
    answer = answer_text(completion)
    if answer is None:
        return None
    offered = ascii_uppercase[: len(options)]
    text = _undressed(answer)
    if len(text) == 1:
        # By letters, not by text: "ﬅ".upper() is "ST", and that is in the alphabet.
        return text.upper() if text.upper() in list(offered) and text.isascii() else None
    matcher = _matcher(tuple(options[: len(offered)]))
    option = matcher.match(text)
    if option is not None:
        last = _LAST.search(text)
        return offered[option] if last is None or last[1].upper() == offered[option] else None
    return _lettered(text, offered, matcher)


@lru_cache(maxsize=4096)
def _matcher(options: tuple[str, ...]) -> Matcher:
    return Matcher(options)


def _undressed(answer: str) -> str:
    """Without LaTeX, Markdown, quotes, brackets around it, a lead-in such as "The answer is", and a final full stop."""
    text, before = answer.translate(_FULLWIDTH), ""
    while text != before:  # each may be inside another
        before = text
        text = _WRAPPED.sub(r"\1", _NESTED.sub(r"{\1}", text))
        text = " ".join(_DECORATION.sub(" ", text).split())
        text = (_LEAD.sub("", text, count=1) or text).rstrip(".,;:! ")
        inner = re.fullmatch(r"[(\[{]([^()\[\]{}]*|[(\[{][^()\[\]{}]*[)\]}])[)\]}]", text)
        text = inner[1].strip() if inner else text
    return text


def _lettered(text: str, offered: str, matcher: Matcher) -> str | None:
    """A letter followed by its own option."""
    match = _LETTER.match(text)
    if match is None or match[1].upper() not in offered:
        return None
    letter_text, rest = match[1].upper(), _undressed(match[2])
    if not rest:
        return letter_text
    option = matcher.match(rest)
    return letter_text if option is not None and offered[option] == letter_text else None
