"""Names what is in pictures of one's own, by the two steps of the method: K draws, then a choice by the model."""

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
from pipeline.method.class_lists import ClassLists, ParsedAnswer
from pipeline.method.predictions import PredictionParams
from pipeline.method.prompts import letters
from pipeline.method.two_steps import BLOCK, StepOne, parse_choice, step_one, step_two

DATASET = "photos"

Picture = tuple[str, Path | bytes]
"""What it is called, and the file that it is in, or its bytes."""

Calibration = Callable[[float], float]
"""From a confidence as the model has it to the share that is right of answers as sure."""


@dataclass(frozen=True)
class PhotoParams(PredictionParams, EngineParams):
    """Those of `predict`, since a picture of one\'s own is answered as a test image is."""


@dataclass(frozen=True)
class Classified:
    """What was found in one picture.

    `answer` is None, and `status` says why, where nothing was named or the picture cannot be opened. `confidence` lies
    between 0 and 1; `calibrated` says whether it was fitted on validation images. `options` are letter, name and votes.
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

    def said(self) -> str:
        """The answer with its confidence in percent, or why there is none."""
        if self.answer is None:
            why = self.reason or {"no_answer": "no class was named"}.get(self.status, self.status.replace("_", " "))
            return f"no answer ({why})"
        if self.confidence is None:
            return self.answer
        return f"{self.answer} ({self.confidence:.0%}{'' if self.calibrated else ', not calibrated'})"


def class_rows(names: Sequence[tuple[str, Sequence[str]]], noun: str) -> pl.DataFrame:
    """A table of classes of one list: name and aliases of each."""
    rows = [
        {"dataset": DATASET, "class_id": number, "name": name, "subset": "base", "aliases": list(aliases), "noun": noun}
        for number, (name, aliases) in enumerate(names)
    ]
    return pl.DataFrame(rows, schema=tables.CLASSES.schema)


def calibration(predictions: Path) -> Calibration | None:
    """The isotonic fit on the validation images of a table of predictions; None without such, or without confidence."""
    if not predictions.is_file():
        return None
    rows = tables.read(tables.PREDICTIONS, predictions, where=pl.col("split") == "val")
    known = confidences(rows, "two_step") if rows.height else None
    if known is None:
        return None
    fitted = isotonic(known, metrics.scores(rows)["two_step"].to_numpy())
    return lambda sure: float(fitted(np.array([sure]))[0])


def _silent() -> None:
    pass


class Classifier:
    """A model with the classes that a picture can be of.

    Args:
        classes: of `class_rows`.
        calibrated: how its confidences are to be read; None leaves them as the model has them.
    """

    def __init__(self, engine: Engine, classes: pl.DataFrame, asked: PhotoParams, calibrated: Calibration | None):
        if classes.height < 2:
            raise UserError(f"classes: found {classes.height}, wanted at least two names, one a line")
        self.engine, self.lists, self.asked, self.calibrated = engine, ClassLists(classes), asked, calibrated

    @property
    def answers(self) -> int:
        """Of each picture: one greedy answer, K draws, and the choice."""
        return self.asked.num_samples + 2

    def classify(
        self, pictures: Sequence[Picture], max_pixels: int, advance: Advance = _silent
    ) -> Iterator[Classified]:
        """What is in each picture, in the order given; BLOCK of them are read and answered together.

        Args:
            tell: called `answers` times for each picture, whether so many were needed or not.
        """
        for start in range(0, len(pictures), BLOCK):
            yield from self._answered(pictures[start : start + BLOCK], max_pixels, advance)

    def _answered(self, pictures: Sequence[Picture], max_pixels: int, advance: Advance) -> list[Classified]:
        def count(readings: Iterable[ParsedAnswer]) -> None:
            for _ in readings:
                advance()

        ids: dict[str, str] = {}
        rows: dict[str, dict[str, Any]] = {}
        unopened: dict[str, str] = {}
        for file, source in pictures:
            try:
                image = ingest(source.read_bytes() if isinstance(source, Path) else source, max_pixels).image
            except (PictureError, OSError) as error:
                unopened[file] = str(error)
                continue
            ids[file] = hashlib.sha256(image).hexdigest()[:16]
            # Any class of the list: it says no more than which list is asked about.
            rows[ids[file]] = {"image_id": ids[file], "dataset": DATASET, "class_id": 0, "image": image}
        schema = {name: tables.IMAGES.schema[name] for name in ("image_id", "dataset", "class_id", "image")}
        table = pl.DataFrame(list(rows.values()), schema=schema)
        found = step_one(self.engine, table, self.lists, self.asked, count, self.asked.stop_rule())
        choices = step_two(self.engine, found, self.lists, self.asked)
        for _ in range(self.answers * len(pictures) - sum(1 + len(one.draws) for one in found)):
            advance()
        by_id = {one.image_id: (one, choices.get(one.image_id)) for one in found}
        return [
            self._failed(file, unopened[file]) if file in unopened else self._said(file, *by_id[ids[file]])
            for file, _ in pictures
        ]

    def _failed(self, file: str, reason: str) -> Classified:
        return Classified(file, None, "error", reason, None, False, None, None, None, [], {})

    def _said(self, file: str, one: StepOne, done: Completion | None) -> Classified:
        names = self.lists.names_of(DATASET)
        letter, choice = parse_choice(one, done)
        votes = Counter(reading.class_id for reading in one.draws if reading.class_id is not None)
        options = [
            {"letter": sign, "name": option["name"], "votes": option["votes"]}
            for sign, option in zip(letters(max(1, len(one.options))), one.options, strict=False)
        ]
        sure = choice.probability if done else max(votes.values(), default=0) / max(1, len(one.draws))
        answer = None if choice.class_id is None else names[choice.class_id]
        if answer is None:
            sure = None
        elif sure is not None and self.calibrated:
            sure = self.calibrated(sure)
        failed = next((reading.text for reading in one.draws if reading.status == "error"), None)
        return Classified(
            file=file,
            answer=answer,
            status=choice.status,
            reason=failed if choice.status == "error" else None,
            confidence=None if sure is None else round(sure, 4),
            calibrated=sure is not None and self.calibrated is not None,
            vote=names[votes.most_common(1)[0][0]] if votes else None,
            letter=letter if done else None,
            reasoning=choice.text if done else None,
            options=options,
            draws={names[class_id]: count for class_id, count in votes.most_common()},
        )
