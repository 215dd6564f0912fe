"""The text of every prompt, in one place: sampling, training and prediction render the same one."""

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

from pipeline.method.styles import category, style

Message = dict[str, Any]

MAX_OPTIONS = len(ascii_uppercase)


def letters(count: int) -> str:
    """The first `count` capital letters; ValueError where there are not that many."""
    if not 1 <= count <= MAX_OPTIONS:
        raise ValueError(f"{count} options cannot be lettered: there are {MAX_OPTIONS} letters")
    return ascii_uppercase[:count]


def open_question(prompt: str, noun: str, names: Sequence[str] = ()) -> str:
    """Step 1: what is this? With the class names that it can be, where any are shown.

    `prompt` is the name of a style or its file. Raises UserError, as do the functions below, where there is none.
    """
    texts, places = style(prompt), {"noun": noun, "category": category(noun)}
    listed = texts.listed.format(names=", ".join(names), **places) if names else ""
    return listed + texts.open.format(**places)


def supervised_answer(prompt: str, name: str) -> str:
    """The answer to step 1, without a thought: what supervised training teaches."""
    return style(prompt).answer.format(name=name)


def choice_question(prompt: str, noun: str, names: Sequence[str]) -> str:
    """Step 2: which of these is it? One option a line: a letter, a full stop, the name."""
    lines = (f"{letter}. {name}" for letter, name in zip(letters(len(names)), names, strict=True))
    return style(prompt).choice.format(noun=noun, category=category(noun), options="\n".join(lines))


def chat(question: str) -> list[Message]:
    """One user turn: the picture first, as Qwen-VL models are trained, then the text."""
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
