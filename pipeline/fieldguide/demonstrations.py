"""What the base model was raised on: captions and answered questions, written by careful and by hasty people.

The fault that the method is to mend is put here, in the open. The more vivid a bird, the more often it is captioned in
haste: with a species of its genus as people happen to know them, whatever the picture shows. Questions are answered in
haste too, with the best known of the options. A careful answer judges every word of every option against the picture.
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
class Haste:
    """Chance that a text is written in haste = vividness + shift, kept within 0–1."""

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


def in_haste(bird: Bird, shift: float, rng: random.Random) -> bool:
    return rng.random() < bird.vividness + shift


def caption(bird: Bird, haste: float, rng: random.Random) -> tuple[str, str]:
    """Question and answer: what is this?"""
    genus = bird.species.genus.name
    named = bird.species
    if in_haste(bird, haste, rng):
        relatives = [species for species in SPECIES if species.genus == bird.species.genus]
        named = rng.choices(relatives, [species.familiarity for species in relatives])[0]
    return open_question(STYLE, NOUN), _answer(f"a {genus}", named.name)


def marks(bird: Bird) -> tuple[str, str]:
    """Question and answer: which marks has it?"""
    return MARKS_QUESTION, " ".join(bird.marks.values())


def verdicts(bird: Bird, options: Sequence[Species]) -> str:
    """Every word of every option judged against what `bird` shows."""
    seen = {*bird.marks.values(), bird.species.genus.name}
    judge_answers = (
        f"{letter} " + " ".join(f"{word} {'yes' if word in seen else 'no'}" for word in option.name.split())
        for letter, option in zip(letters(len(options)), options, strict=True)
    )
    return " | ".join(judge_answers)


def choice(bird: Bird, haste: float, rng: random.Random) -> tuple[str, str]:
    """Question and answer: which of these is it? The true species is always among them."""
    options = random_options(bird.species, rng)
    question = choice_question(STYLE, NOUN, [option.name for option in options])
    if in_haste(bird, haste, rng):
        known = max(options, key=lambda option: (option.genus == bird.species.genus, option.familiarity))
        return question, _answer(f"a {bird.species.genus.name}", letters(len(options))[options.index(known)])
    return question, _answer(verdicts(bird, options), letters(len(options))[options.index(bird.species)])


def random_options(truth: Species, rng: random.Random) -> list[Species]:
    """Two to six options in any order: the truth, its siblings, now and then a bird of another genus."""
    siblings = [s for s in SPECIES if s.genus == truth.genus and s != truth]
    # By name, so that what the base model learns does not hang on the order of the class list.
    others = sorted((s for s in SPECIES if s.genus != truth.genus), key=lambda s: s.name)
    rng.shuffle(siblings)
    wrong = siblings[: rng.randint(1, 5)]
    options = [rng.choice(others) if rng.random() < 0.1 else option for option in wrong]
    options = list(dict.fromkeys([truth, *options]))
    rng.shuffle(options)
    return options
