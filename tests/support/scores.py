"""Predictions made by hand, whose metrics are known, and random ones, which the bench scores by plain loops."""

import random
from collections.abc import Mapping
from functools import cache

import polars as pl
from support.benches import bench

from pipeline.core import tables
from pipeline.evaluation.clusters import ClusteredScores
from pipeline.evaluation.scoring import ScoredPredictions, score


def prediction(image, subset, truth, draws, one_step, vote, two_step, options=(0, 1), question=True, model="base"):
    return {
        "model": model,
        "image_id": image,
        "split": "test",
        "dataset": "x",
        "class_id": truth,
        "subset": subset,
        "greedy_text": "",
        "greedy_status": "ok",
        "greedy_tokens": 5,
        "draws": draws,
        "draw_statuses": ["off_list" if c is None else "ok" for c in draws],
        "draw_texts": ["<answer>dodo</answer>" for _ in draws],
        "draw_tokens": [5 for _ in draws],
        "options": [{"class_id": c, "name": str(c), "votes": 1, "rank": 1, "source": "draws"} for c in options],
        "choice_text": "text" if question else None,
        "choice_tokens": 30 if question else 0,
        "rotated": [],
        "rotated_tokens": [],
        "letter": "A",
        "status": "ok" if two_step is not None else "no_answer",
        "one_step": one_step,
        "vote": vote,
        "two_step": two_step,
    }


def frame(*rows):
    return pl.DataFrame(list(rows), schema=tables.PREDICTIONS.schema)


ROWS = (
    prediction("a", "base", 0, [0, 0, 1, None], 0, 0, 0),
    prediction("b", "base", 1, [0, 0, 0, 0], 0, 0, None),
    prediction("c", "novel", 2, [2, 3, 3, 3], None, 3, 2, options=(3, 2)),
    prediction("d", "novel", 3, [2, 2, 2, 2], 2, 2, 2, options=(2,), question=False),
)


BENCH = bench("evaluate")
"""The bench that scores random predictions by plain loops too."""

NOT_DRAWN = {name: [] for name in ("draws", "draw_statuses", "draw_texts", "draw_tokens", "rotated", "rotated_tokens")}
NOT_DRAWN |= {"choice_text": None, "vote": None}
"""What is in the row of a model that answers without draws, as CLIP does."""


def without_draws(predictions: pl.DataFrame) -> pl.DataFrame:
    """The same predictions with a single answer each."""
    schema = tables.PREDICTIONS.schema
    return predictions.with_columns(pl.lit(value, schema[name]).alias(name) for name, value in NOT_DRAWN.items())


@cache
def random_predictions() -> pl.DataFrame:
    """Two models, 400 test images and 100 validation images, 200 classes."""
    rng = random.Random(0)
    images = [(f"{n:016x}", "test", n % 200) for n in range(400)] + [(f"v{n:015x}", "val", n) for n in range(100)]
    rows = [BENCH.prediction(rng, model, *image) for model in ("base", "trained") for image in images]
    return frame(*rows)


@cache
def random_scores() -> ScoredPredictions:
    """`random_predictions`, scored."""
    return score(random_predictions())


def clustered(scores: pl.DataFrame, groups: Mapping[int, str] | None = None) -> ClusteredScores:
    """Scores in clusters: classes, or the groups given by class id."""
    classes = scores.select("dataset", "class_id").unique()
    group = pl.col("class_id").replace_strict(groups or {}, default=None, return_dtype=pl.String)
    return ClusteredScores(scores, classes.with_columns(group=group))
