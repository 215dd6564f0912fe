"""The text of every prompt, in one place: sampling, training and prediction render the same one."""

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

Message = dict[str, Any]

MAX_OPTIONS = len(ascii_uppercase)


@dataclass(frozen=True)
class Style:
    """A way of asking. Every text may use {noun}; `choice` must use {options}, `listed` {names}.

    `listed` goes in front of the open question if class names are shown with it. `answer` is the target of supervised
    training for the open question.
    """

    open: str
    choice: str
    listed: str
    answer: str = "<answer>{name}</answer>"


STYLES = {
    "brief": Style(
        open="Which {noun} is this ?",
        choice="Which {noun} is this ?\n{options}",
        listed="{names}\n",
        answer="<answer> {name} </answer>",
    ),
    "paper": Style(
        open=(
            "This is an image containing a {noun}. Please identify the {noun} in the image as precisely as you can.\n"
            "Think about the marks that tell similar kinds apart inside <think> </think> tags, then give the name "
            "alone inside <answer> </answer> tags."
        ),
        choice=(
            "This is an image containing a {noun}. Please find the most likely {noun} in the image from the below "
            "options:\n{options}\n"
            "Compare the options with the image inside <think> </think> tags, then give the letter of your choice "
            "alone inside <answer> </answer> tags."
        ),
        listed="These are the kinds of {noun} that it can be: {names}.\n",
    ),
}


def letters(count: int) -> str:
    """The first `count` capital letters; ValueError where there are not that many."""
    if not 1 <= count <= MAX_OPTIONS:
        raise ValueError(f"{count} options cannot be lettered: there are {MAX_OPTIONS} letters")
    return ascii_uppercase[:count]


def open_question(style: str, noun: str, names: Sequence[str] = ()) -> str:
    """Step 1: what is this? With the class names that it can be, where any are shown."""
    listed = STYLES[style].listed.format(noun=noun, names=", ".join(names)) if names else ""
    return listed + STYLES[style].open.format(noun=noun)


def supervised_answer(style: str, name: str) -> str:
    """The answer to step 1, without a thought: what supervised training teaches."""
    return STYLES[style].answer.format(name=name)


def choice_question(style: str, noun: str, names: Sequence[str]) -> str:
    """Step 2: which of these is it? One option a line: a letter, a full stop, the name."""
    lines = (f"{letter}. {name}" for letter, name in zip(letters(len(names)), names, strict=True))
    return STYLES[style].choice.format(noun=noun, options="\n".join(lines))


def chat(question: str) -> list[Message]:
    """One user turn: the picture first, as Qwen-VL models are trained, then the text."""
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
