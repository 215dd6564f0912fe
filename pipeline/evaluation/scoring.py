"""Predictions scored once: the vote thresholds, scores and confidences that all details and tables are made of."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.core.params import UserError
from pipeline.evaluation import metrics
from pipeline.evaluation.confidence import Floats, confidences, isotonic, vote_threshold
from pipeline.evaluation.groups import by_model, subset_masks
from pipeline.evaluation.ways import measured, prepare, way
from pipeline.method.predictions import UNION


@dataclass(frozen=True)
class WayConfidence:
    """Confidences of one model's answers by one way.

    Attributes:
        confidence, right: (images,) of the test; right is 0 or 1.
        subsets: masks of the test images, as `groups.subset_masks` returns them.
        validation: confidence and right of the validation images; None where no confidence is there.
    """

    model: str
    way: str
    confidence: Floats
    right: Floats
    subsets: dict[str, NDArray[np.bool_]]
    validation: tuple[Floats, Floats] | None

    @cached_property
    def fit(self) -> Callable[[Floats], Floats] | None:
        """The isotonic fit on validation images; None without their confidences."""
        return isotonic(*self.validation) if self.validation else None


@dataclass(frozen=True)
class ScoredPredictions:
    """Predictions of every model about the same images.

    Attributes:
        test: rows of the split "test" as `ways.prepare` returns them.
        scores: `metrics.scores` of these.
        vote_thresholds: by model, chosen on the rows of the split "val".
        confidences: of every model and way to answer that has one.
    """

    test: pl.DataFrame
    scores: pl.DataFrame
    vote_thresholds: dict[str, float]
    confidences: list[WayConfidence]

    @property
    def with_draws(self) -> pl.DataFrame:
        """The test rows of models that draw; CLIP and CoOp answer without."""
        return self.test.filter(pl.col("draws").list.len() > 0)


def score(predictions: pl.DataFrame) -> ScoredPredictions:
    """Scores the test rows of all models; thresholds and fits come from the validation rows.

    Raises:
        UserError: there are no test rows.
    """
    if not (predictions["split"] == "test").any():
        raise UserError(
            "data/predictions: no answers to test images, so there is nothing to score; check the splits with "
            "`python -m pipeline.stages.download --check`"
        )
    thresholds = vote_thresholds(predictions.filter(split="val"))
    validation, test = (prepare(predictions.filter(split=split), thresholds) for split in ("val", "test"))
    validation_scores, scores = metrics.scores(validation), metrics.scores(test)
    own_confidences = [
        confidence
        for model, rows in by_model(test)
        for confidence in _confidences(
            model, rows, scores.filter(model=model), validation.filter(model=model), validation_scores
        )
    ]
    return ScoredPredictions(test, scores, thresholds, own_confidences)


def union_scores(predictions: pl.DataFrame, scored: ScoredPredictions) -> pl.DataFrame:
    """`metrics.scores` of answers with all classes as labels, their models called `<model>_union`; maybe empty.

    Raises:
        UserError: they are not about the images of `scored`.
    """
    thresholds = vote_thresholds(predictions.filter(split="val"))
    scores = metrics.scores(prepare(predictions.filter(split="test"), thresholds))
    images = set(scored.test["image_id"])
    if any(set(rows["image_id"]) != images for _, rows in by_model(scores)):
        raise UserError(
            "data/predictions: the tables with all classes as labels do not have the images of the others; write them "
            "again with `dvc repro predict`"
        )
    return scores.with_columns(pl.col("model") + UNION)


def _confidences(
    model: str, test: pl.DataFrame, scores: pl.DataFrame, validation: pl.DataFrame, validation_scores: pl.DataFrame
) -> list[WayConfidence]:
    subsets, result = subset_masks(test), []
    for name in (one.name for one in measured(test)):
        confidence, before = confidences(test, name), confidences(validation, name)
        if confidence is None:
            continue
        right = validation_scores.filter(model=model)[name].to_numpy()
        own = None if before is None else (before, right)
        result.append(WayConfidence(model, name, confidence, scores[name].to_numpy(), subsets, own))
    return result


def vote_thresholds(validation: pl.DataFrame) -> dict[str, float]:
    """By model the vote share at and above which a second question brings no more right answers on validation images.

    Models without validation rows or votes are left out.
    """
    thresholds = {}
    for model, rows in by_model(validation):
        shares = confidences(rows, "vote")
        if shares is not None:
            right = rows.select(way("vote").scored, way("two_step").scored)
            thresholds[model] = vote_threshold(shares, right["vote"].to_numpy(), right["two_step"].to_numpy())
    return thresholds


def require_same_images(predictions: pl.DataFrame) -> None:
    """Raises UserError unless every model answered the same images, each once and with as many draws.

    Where drawing stops early, the numbers of draws differ within a model and may differ between models. Some models
    never draw.
    """
    rows = predictions.group_by("model", maintain_order=True).agg("image_id", draws=pl.col("draws").list.len().unique())
    images = [sorted(ids) for ids in rows["image_id"]]
    draws = {tuple(counts) for counts in rows["draws"].to_list() if counts != [0]}
    other_draws = len(draws) > 1 and all(len(counts) == 1 for counts in draws)
    if any(ids != images[0] or len(set(ids)) < len(ids) for ids in images) or other_draws:
        counts = ", ".join(f"{model}: {len(ids)} rows" for model, ids in zip(rows["model"], images, strict=True))
        raise UserError(
            f"data/predictions: the models do not have the same images and draws ({counts}); expected each image once "
            "per model, with the same number of draws; write them again with `dvc repro predict`"
        )
