"""Accuracy by class, and the classes confused most often."""

import polars as pl

from pipeline.evaluation.groups import DIGITS
from pipeline.evaluation.scoring import ScoredPredictions
from pipeline.evaluation.ways import answering

WORST = 12  # classes in the confusion plot


def by_class(scored: ScoredPredictions, classes: pl.DataFrame) -> pl.DataFrame:
    """One row for every class with images: their number, and each model's accuracy by the ways of the headline."""
    names = [way.name for way in answering() if way.headline]
    table = classes.select("dataset", "class_id", "name")
    for (model,), rows in scored.scores.group_by("model", maintain_order=True):
        own = [name for name in names if not rows[name].null_count()]
        means = rows.group_by("dataset", "subset", "class_id").agg(
            pl.len().alias("n"), *(pl.col(name).mean().round(DIGITS).alias(f"{name}_{model}") for name in own)
        )
        keys = [name for name in ("dataset", "class_id", "subset", "n") if name in table.columns]
        table = table.join(means, on=keys, how="inner")
    return table.select(
        "dataset", "name", "subset", "n", pl.exclude("dataset", "name", "subset", "n", "class_id")
    ).sort("dataset", "subset", "name")


def confusion(predictions: pl.DataFrame, classes: pl.DataFrame) -> pl.DataFrame:
    """One row for every image of the twelve classes confused most often that was answered with one of them.

    Args:
        predictions: of one model.
    """
    names = classes.select("dataset", "class_id", "name")
    pairs = (
        predictions.select("dataset", "class_id", answer="two_step")
        .drop_nulls()
        .join(names, on=["dataset", "class_id"])
        .join(names, left_on=["dataset", "answer"], right_on=["dataset", "class_id"], suffix="_answer")
        .select("dataset", actual="name", predicted="name_answer")
    )
    confusions = (
        pairs.filter(pl.col("actual") != pl.col("predicted"))
        .group_by("dataset", "actual", "predicted")
        .len()
        .sort("len", "dataset", "actual", "predicted", descending=[True, False, False, False])
    )
    worst = list(dict.fromkeys(name for row in confusions.select("actual", "predicted").rows() for name in row))[:WORST]
    return pairs.filter(pl.col("actual").is_in(worst), pl.col("predicted").is_in(worst)).sort("actual", "predicted")
