"""Classifies a user's own pictures by the two steps of the method: K draws, then a choice by the model."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipeline.core import tables
from pipeline.core.engine import Completion, Engine
from pipeline.core.params import UserError
from pipeline.core.pictures import PictureError
from pipeline.core.progress import Advance
from pipeline.datasets.ingest import ingest
from pipeline.engines.params import EngineParams
from pipeline.evaluation import metrics
from pipeline.evaluation.confidence import confidences, isotonic
from pipeline.evaluation.ways import prepare
from pipeline.method.class_lists import ClassLists, ParsedAnswer
from pipeline.method.predictions import PredictionParams
from pipeline.method.prompts import letters
from pipeline.method.two_steps import BLOCK, StepOne, parse_choice, step_one, step_two

DATASET = "photos"

Picture = tuple[str, Path | bytes]
"""The name of a picture, and its file or its bytes."""

Calibration = Callable[[float], float]
"""Maps a confidence of the model to the share of right answers at that confidence."""


@dataclass(frozen=True)
class PhotoParams(PredictionParams, EngineParams):
    """The same as those of the stage `predict`: a picture is answered as a test image is."""


@dataclass(frozen=True)
class PhotoAnswer:
    """The answer to one picture.

    Attributes:
        answer: name of the class; None, with the reason in `status` and `reason`, where there is none.
        confidence: between 0 and 1.
        calibrated: whether the confidence was fitted on validation images.
        vote: name of the class that most draws name.
        letter, reasoning: of the second step; None where one option made it unnecessary.
        options: letter, name and votes of each.
        draws: number of draws by class name.
    """

    file: str
    answer: str | None
    status: str
    reason: str | None
    confidence: float | None
    calibrated: bool
    vote: str | None
    letter: str | None
    reasoning: str | None
    options: list[dict[str, Any]]
    draws: dict[str, int]

    def summary(self) -> str:
        """The answer with its confidence in percent, or the reason why there is none."""
        if self.answer is None:
            statuses = {"no_answer": "no draw names a class"}
            return f"no answer ({self.reason or statuses.get(self.status, self.status.replace('_', ' '))})"
        if self.confidence is None:
            return self.answer
        return f"{self.answer} ({self.confidence:.0%}{'' if self.calibrated else ', not calibrated'})"


def class_rows(names: Sequence[tuple[str, Sequence[str]]], noun: str) -> pl.DataFrame:
    """A table of classes from names and aliases."""
    rows = [
        {"dataset": DATASET, "class_id": number, "name": name, "subset": "base", "aliases": list(aliases), "noun": noun}
        for number, (name, aliases) in enumerate(names)
    ]
    return pl.DataFrame(rows, schema=tables.CLASSES.schema)


def calibration(predictions: Path) -> Calibration | None:
    """The isotonic fit on the validation images of a table of predictions; None without them or their confidences."""
    if not predictions.is_file():
        return None
    rows = tables.read(tables.PREDICTIONS, predictions, where=pl.col("split") == "val")
    confidence = confidences(rows, "two_step") if rows.height else None
    if confidence is None:
        return None
    fit = isotonic(confidence, metrics.scores(prepare(rows))["two_step"].to_numpy())
    return lambda value: float(fit(np.array([value]))[0])


def _silent() -> None:
    pass


class PhotoClassifier:
    """A model with the list of classes that it may answer.

    Args:
        classes: from `class_rows`.
        calibration: applied to the confidences; None leaves them as the model reports them.

    Raises:
        UserError: for fewer than two classes.
    """

    def __init__(self, engine: Engine, classes: pl.DataFrame, params: PhotoParams, calibration: Calibration | None):
        if classes.height < 2:
            raise UserError(f"the list of classes has {classes.height} name, but needs at least two, one per line")
        self.engine, self.lists, self.params, self.calibration = engine, ClassLists(classes), params, calibration

    @property
    def answers(self) -> int:
        """Completions per picture: one greedy answer, K draws, and the choice."""
        return self.params.num_samples + 2

    def classify(
        self, pictures: Sequence[Picture], max_pixels: int, advance: Advance = _silent
    ) -> Iterator[PhotoAnswer]:
        """The answers to the pictures, in the same order; BLOCK pictures at a time are read and answered together.

        Args:
            advance: called `answers` times for each picture, even where fewer completions are needed.
        """
        for start in range(0, len(pictures), BLOCK):
            yield from self._classify_block(pictures[start : start + BLOCK], max_pixels, advance)

    def _classify_block(self, pictures: Sequence[Picture], max_pixels: int, advance: Advance) -> list[PhotoAnswer]:
        def count(parsed: Iterable[ParsedAnswer]) -> None:
            for _ in parsed:
                advance()

        ids: dict[str, str] = {}
        rows: dict[str, dict[str, Any]] = {}
        errors: dict[str, str] = {}
        for file, source in pictures:
            try:
                image = ingest(source.read_bytes() if isinstance(source, Path) else source, max_pixels).image
            except (PictureError, OSError) as error:
                errors[file] = str(error)
                continue
            ids[file] = hashlib.sha256(image).hexdigest()[:16]
            # The class only selects the list of classes in the question; any class of the list will do.
            rows[ids[file]] = {"image_id": ids[file], "dataset": DATASET, "class_id": 0, "image": image}
        schema = {name: tables.IMAGES.schema[name] for name in ("image_id", "dataset", "class_id", "image")}
        table = pl.DataFrame(list(rows.values()), schema=schema)
        first = step_one(self.engine, table, self.lists, self.params, count, self.params.stop_rule())
        choices = step_two(self.engine, first, self.lists, self.params, prefix=self.params.choice_prefix)
        for _ in range(self.answers * len(pictures) - sum(1 + len(one.draws) for one in first)):
            advance()
        by_id = {one.image_id: (one, choices.get(one.image_id)) for one in first}
        return [
            _error(file, errors[file]) if file in errors else self._answer(file, *by_id[ids[file]])
            for file, _ in pictures
        ]

    def _answer(self, file: str, first: StepOne, completion: Completion | None) -> PhotoAnswer:
        names = self.lists.names_of(DATASET)
        letter, choice = parse_choice(first, completion)
        votes = Counter(draw.class_id for draw in first.draws if draw.class_id is not None)
        vote_share = max(votes.values(), default=0) / max(1, len(first.draws))
        confidence = choice.probability if completion else vote_share
        if choice.class_id is None:
            confidence = None
        elif confidence is not None and self.calibration:
            confidence = self.calibration(confidence)
        error = next((draw.text for draw in first.draws if draw.status == "error"), None)
        return PhotoAnswer(
            file=file,
            answer=None if choice.class_id is None else names[choice.class_id],
            status=choice.status,
            reason=error if choice.status == "error" else None,
            confidence=None if confidence is None else round(confidence, 4),
            calibrated=confidence is not None and self.calibration is not None,
            vote=names[votes.most_common(1)[0][0]] if votes else None,
            letter=letter if completion else None,
            reasoning=choice.text if completion else None,
            options=[
                {"letter": sign, "name": option["name"], "votes": option["votes"]}
                for sign, option in zip(letters(max(1, len(first.options))), first.options, strict=False)
            ],
            draws={names[class_id]: count for class_id, count in votes.most_common()},
        )


def _error(file: str, reason: str) -> PhotoAnswer:
    return PhotoAnswer(file, None, "error", reason, None, False, None, None, None, [], {})
