"""Answers made from a truth by decorations, refusals and alternatives, each with the reading that is allowed.

The oracle knows how an answer was made and reads nothing: it is no second parser with the same mistakes.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

NAMES = (
    "Sooty Albatross",
    "Laysan Albatross",
    "Black footed Albatross",
    "Oxeye daisy",
    "American Goldfinch",
    "Magpie",
    "forget-me-not",
    "737-200",
    "737-300",
    "2012 Audi TTS Coupe",
    "crane (bird)",
    "crane (machine)",
)
OPTION_LETTERS = "ABCDEFGHIJKL"


@dataclass(frozen=True)
class Made:
    """An answer, and the only option that it may be read as; None where it may be read as none."""

    text: str
    option: int | None
    how: str


# Decorations keep the meaning of what they are put around.
DECORATIONS = {
    "bold": "**{}**",
    "code": "`{}`",
    "boxed": r"\boxed{{{}}}",
    "boxed twice": r"$\boxed{{{{{}}}}}$",
    "text": r"\text{{{}}}",
    "box tokens": "<|begin_of_box|>{}<|end_of_box|>",
    "end of turn": "{}<|im_end|>",
    "end mark": "{}</s>",
    "html": "<b>{}</b>",
    "heading": "### {}",
    "quoted": '"{}"',
    "fullwidth brackets": "【{}】",
    "zero width": "\u200b{}\ufeff",
    "full stop": "{}.",
    "spaces": "  {}\n",
    "the answer is": "The answer is {}",
    "answer": "Answer: {}",
    "chinese": "答案是 {}",
    "chinese choice": "我選擇 {}",
    "german": "Die Antwort ist {}",
}
# What takes an answer back, doubts it, or puts another beside it.
REFUSALS = {
    "not this": "{} (not this)",
    "ruled out": "{} (ruled out)",
    "excluded": "{} (excluded)",
    "unlikely": "{} (unlikely)",
    "question": "{}?",
    "question in brackets": "{} (?)",
    "maybe": "{} (maybe)",
}
ALTERNATIVES = {"or in brackets": "{} (or {})", "or": "{} or {}", "comma": "{}, {}", "slash": "{} / {}"}


def names_of(rng: random.Random, option: int) -> str:
    """A spelling of the option's text that keeps the class."""
    name = NAMES[option]
    spellings = [name, name.lower(), name.upper(), name.replace(" ", "_"), f"  {name} "]
    if name[-1].isalpha():
        plural = {"daisy": "daisies", "finch": "finches", "Albatross": "Albatrosses", "Magpie": "Magpies"}
        spellings += [name.replace(one, many) for one, many in plural.items() if name.endswith(one)]
    return rng.choice(spellings)


def made_answers(count: int, seed: int = 0) -> Iterator[Made]:
    """`count` answers about NAMES as options, for the letter parser: letters, names, or both."""
    rng = random.Random(seed)
    for _ in range(count):
        option, other = rng.sample(range(len(NAMES)), 2)
        letter, kind = OPTION_LETTERS[option], rng.choice(("letter", "name", "both", "mismatch"))
        text = {
            "letter": rng.choice((letter, f"({letter})", f"[{letter.lower()}]", f"{letter}.", f"Option {letter}")),
            "name": names_of(rng, option),
            "both": f"{letter}{rng.choice(('. ', ') ', ' - ', ': '))}{names_of(rng, option)}",
            "mismatch": f"{letter}. {names_of(rng, other)}",
        }[kind]
        allowed, how = (None if kind == "mismatch" else option), kind
        end = rng.random()
        if end < 0.25:
            name = rng.choice(list(REFUSALS))
            text, allowed, how = REFUSALS[name].format(text), None, f"{how}, {name}"
        elif end < 0.4:
            name = rng.choice(list(ALTERNATIVES))
            second = OPTION_LETTERS[other] if kind == "letter" else NAMES[other]
            text, allowed, how = ALTERNATIVES[name].format(text, second), None, f"{how}, {name}"
        for name in rng.sample(list(DECORATIONS), rng.choice((0, 1, 1, 2))):
            text, how = DECORATIONS[name].format(text), f"{how}, {name}"
        yield Made(f"<think>t</think><answer>{text}</answer>", allowed, how)
