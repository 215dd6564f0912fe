"""FuDD (Esfandiarpoor and Bach 2024, arXiv 2311.07593): descriptions distinguish CLIP's most probable classes.

For every pair of the k classes there are descriptions of photos of the one and of the other, which name their
differences. A class is represented by the mean of the descriptions that distinguish it from the other k − 1. They come
from a file or from a language model, which gets one question for each pair that occurs.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.baselines.clip import Clip, unit
from pipeline.core.engine import Engine
from pipeline.core.params import UserError, first_line
from pipeline.engines.language_model import replies
from pipeline.method.thoughts import after_thought

Pair = tuple[str, str]
"""A class name, and the one that it is distinguished from."""

Descriptions = Mapping[Pair, Sequence[str]]

COLUMNS = ("name", "other", "description")

QUESTION = (
    "Two kinds of {noun} are hard to tell apart in photos:\n1. {first}\n2. {second}\n"
    "Write captions that tell photos of the one from photos of the other, each about one difference that can be seen. "
    "Write one caption a line, in turns about the first and the second kind, at most 16 lines, each beginning with 1: "
    "or 2: and then a text such as: a photo of a {noun} with …"
)
LINE = re.compile(r"\s*[-*]?\s*\(?([12])\s*[:.)]\s*(.*\S)\s*")
MAX_TOKENS = 1024


def from_file(path: Path) -> Descriptions:
    """The descriptions of a CSV or Parquet file with name, other and description. Raises UserError."""
    expected = f"a CSV or Parquet file with the columns {', '.join(COLUMNS)}"
    try:
        rows = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
        rows = rows.select(pl.col(COLUMNS).cast(pl.String)).drop_nulls()
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = first_line(error)
        raise UserError(f"fudd.descriptions: {path} cannot be read ({reason}); expected {expected}") from None
    grouped = rows.group_by("name", "other", maintain_order=True).agg("description")
    return {(name, other): tuple(texts) for name, other, texts in grouped.iter_rows()}


def from_language_model(engine: Engine, pairs: Iterable[tuple[str, Pair]]) -> Descriptions:
    """The descriptions that a language model writes, both directions of a pair with one request.

    Args:
        pairs: each with the noun of its data set.

    Raises UserError if a request fails. A reply without captions leaves its pair without descriptions.
    """
    questions = {
        (first, second): QUESTION.format(noun=noun, first=first, second=second)
        for noun, (first, second) in dict.fromkeys((noun, tuple(sorted(pair))) for noun, pair in pairs)
    }
    answers = replies(engine, questions.values(), MAX_TOKENS, "fudd.model", "baselines")
    descriptions: dict[Pair, tuple[str, ...]] = {}
    for (first, second), question in questions.items():
        descriptions[first, second], descriptions[second, first] = captions(answers[question])
    return descriptions


def captions(reply: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The captions about the first and about the second kind, in their order; thoughts and other lines are ignored."""
    lines = [match.groups() for line in after_thought(reply).splitlines() if (match := LINE.fullmatch(line))]
    first, second = (tuple(text for number, text in lines if number == label) for label in "12")
    return first, second


def follow_up(
    clip: Clip, image: Any, names: Sequence[str], descriptions: Descriptions, prompt: Callable[[str], str]
) -> Any:
    """(names,): probabilities of the named classes for one image, (width,), by the descriptions of their differences.

    A class without any description is represented by its prompt, as in the initial prediction.
    """
    import torch

    vectors = []
    for name in names:
        texts = [text for other in names if other != name for text in descriptions.get((name, other), ())]
        vectors.append(clip.texts(texts or [prompt(name)]).mean(dim=0))
    return clip.probabilities(image[None], unit(torch.stack(vectors)))[0]


def reason(names: Sequence[str], best: int, second: int, descriptions: Descriptions) -> str:
    """The descriptions that distinguish the most probable class from the second, as the text of the choice."""
    return "; ".join(descriptions.get((names[best], names[second]), ())) or names[best]
