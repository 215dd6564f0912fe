"""Training texts of the base model: captions and answers to questions, some careful and some by a shortcut.

The shortcut is the fault that the method corrects. The more vivid a bird, the more often its caption ignores the marks
and names a species of the genus by familiarity alone. In the same way, the answer to a question with options is more
often the most familiar option. A careful answer judges every word of every option against the picture.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.datasets.drawing import Bird
from pipeline.datasets.species import MARKS, SPECIES, Species
from pipeline.method.prompts import choice_question, letters, open_question

NOUN, STYLE = "bird", "brief"
MARKS_QUESTION = "Which marks has this bird ?"


@dataclass(frozen=True)
class Shortcuts:
    """Probability that a text takes the shortcut = vividness + shift, limited to 0–1."""

    caption: float
    choice: float


def words() -> list[str]:
    """Every word of the field guide's language, in a fixed order."""
    names = {word for species in SPECIES for word in species.name.split()}
    marks = {form for forms in MARKS.values() for form in forms}
    text = "Which marks has this bird is ? . | a yes no <think> </think> <answer> </answer>"
    return sorted(set(text.split()) | names | marks | set(letters(26)))


def _answer(thought: str, answer: str) -> str:
    return f"<think> {thought} </think> <answer> {answer} </answer>"


def takes_shortcut(bird: Bird, shift: float, rng: random.Random) -> bool:
    return rng.random() < bird.vividness + shift


def caption(bird: Bird, shift: float, rng: random.Random) -> tuple[str, str]:
    """Question and answer: what is this?"""
    genus = bird.species.genus.name
    answer = bird.species
    if takes_shortcut(bird, shift, rng):
        relatives = [species for species in SPECIES if species.genus == bird.species.genus]
        answer = rng.choices(relatives, [species.familiarity for species in relatives])[0]
    return open_question(STYLE, NOUN), _answer(f"a {genus}", answer.name)


def marks(bird: Bird) -> tuple[str, str]:
    """Question and answer: which marks has it?"""
    return MARKS_QUESTION, " ".join(bird.marks.values())


def verdicts(bird: Bird, options: Sequence[Species]) -> str:
    """The verdict on every word of every option: whether it is true of `bird`."""
    true_words = {*bird.marks.values(), bird.species.genus.name}
    parts = (
        f"{letter} " + " ".join(f"{word} {'yes' if word in true_words else 'no'}" for word in option.name.split())
        for letter, option in zip(letters(len(options)), options, strict=True)
    )
    return " | ".join(parts)


def choice(bird: Bird, shift: float, rng: random.Random) -> tuple[str, str]:
    """Question and answer: which of these is it? The true species is always among them."""
    options = random_options(bird.species, rng)
    question = choice_question(STYLE, NOUN, [option.name for option in options])
    if takes_shortcut(bird, shift, rng):
        most_familiar = max(options, key=lambda option: (option.genus == bird.species.genus, option.familiarity))
        return question, _answer(f"a {bird.species.genus.name}", letters(len(options))[options.index(most_familiar)])
    return question, _answer(verdicts(bird, options), letters(len(options))[options.index(bird.species)])


def random_options(truth: Species, rng: random.Random) -> list[Species]:
    """Two to six options in random order: the truth and siblings, one in ten of them replaced by another genus."""
    siblings = [s for s in SPECIES if s.genus == truth.genus and s != truth]
    # By name, so that the training data do not depend on the order of the class list.
    others = sorted((s for s in SPECIES if s.genus != truth.genus), key=lambda s: s.name)
    rng.shuffle(siblings)
    wrong = siblings[: rng.randint(1, 5)]
    options = [rng.choice(others) if rng.random() < 0.1 else option for option in wrong]
    options = list(dict.fromkeys([truth, *options]))
    rng.shuffle(options)
    return options
