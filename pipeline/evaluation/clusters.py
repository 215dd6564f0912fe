"""Scores of the same images by every model and way to answer, in clusters of correlated images, and their averages."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from pipeline.evaluation.blocks import Block, Blocks, Place
from pipeline.evaluation.estimates import Estimate, Floats
from pipeline.evaluation.metrics import SUBSETS
from pipeline.evaluation.ways import names

ModelWay = tuple[str, str]
"""A model and the name of a way to answer."""


class ClusteredScores:
    """Scores of the same images by every model and way to answer, and estimates of their averages.

    Args:
        scores: `metrics.scores` of every model, on the same images.
        classes: the table of classes. Its groups (genus, make, family) are the clusters of a data set where every
            subset has at least two of them; elsewhere each class is a cluster.
    """

    def __init__(self, scores: pl.DataFrame, classes: pl.DataFrame) -> None:
        rows = scores.join(
            clusters_of(classes, scores), on=["dataset", "class_id"], how="left", maintain_order="left"
        ).sort("dataset", "subset", "cluster", "class_id", "image_id")
        own = {str(model): rows.filter(model=model) for model in scores["model"].unique(maintain_order=True)}
        self.models = list(own)
        self.ways: list[ModelWay] = [(m, way) for m in own for way in names() if not own[m][way].null_count()]
        self.images = own[self.models[0]].select("dataset", "subset", "cluster", "is_grouped")
        self.right = np.column_stack([own[model][way].to_numpy() for model, way in self.ways])
        blocks: dict[Place, Block] = {}
        for (dataset, subset), block in self.images.with_row_index().group_by("dataset", "subset", maintain_order=True):
            clusters = (
                block.with_row_index("start").group_by("cluster", maintain_order=True).agg(pl.col("start").first())
            )
            rows_of = self.right[block["index"].to_numpy()]
            starts = clusters["start"].to_numpy().astype(np.int64)
            blocks[str(dataset), str(subset)] = Block(rows_of, starts, tuple(clusters["cluster"]))
        self.blocks = Blocks(blocks)

    @property
    def datasets(self) -> list[str]:
        return sorted(self.images["dataset"].unique())

    def clusters(self, datasets: Sequence[str], average: str) -> tuple[int, str]:
        """How many clusters are behind one of AVERAGES, and what they are: class, group, or class or group."""
        own = self.images.filter(pl.col("dataset").is_in(list(datasets)), pl.col("subset").is_in(_subsets(average)))
        kinds = ["group" if is_grouped else "class" for is_grouped in own["is_grouped"].unique().sort()]
        return own.select("dataset", "cluster").n_unique(), " or ".join(kinds)

    def estimate(self, datasets: Sequence[str], average: str) -> Estimate | None:
        """One of AVERAGES by every way to answer; None where there are no such images."""
        return self.blocks.estimate(datasets, average)

    def differences(
        self, datasets: Sequence[str], average: str, pairs: Sequence[tuple[ModelWay, ModelWay]]
    ) -> Estimate | None:
        """Second minus first of every pair, in one of AVERAGES; None where there are no such images."""
        first, second = (np.array([self.ways.index(pair[side]) for pair in pairs], np.int64) for side in (0, 1))
        return self.blocks.differences(datasets, average, first, second)

    def scores(self, datasets: Sequence[str], average: str) -> Floats:
        """(images, ways): the scores of the images behind one of AVERAGES."""
        holds = self.images["dataset"].is_in(list(datasets)) & self.images["subset"].is_in(_subsets(average))
        return np.asarray(self.right[holds.to_numpy()], np.float64)


def _subsets(average: str) -> list[str]:
    return list(SUBSETS) if average in ("total", "hm") else [average]


def clusters_of(classes: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """By dataset and class_id the cluster of its images, and whether that is a group of classes.

    Groups are used for a data set if all its tested classes have one, and each of its subsets at least two of them.
    """
    tested = scores.select("dataset", "subset", "class_id").unique()
    rows = tested.join(classes.select("dataset", "class_id", "group"), on=["dataset", "class_id"], how="left")
    usable = (
        rows.group_by("dataset", "subset")
        .agg(usable=(pl.col("group").null_count() == 0) & (pl.col("group").n_unique() > 1))
        .group_by("dataset")
        .agg(is_grouped=pl.col("usable").all())
    )
    own = pl.col("class_id").cast(pl.String)
    return rows.join(usable, on="dataset").select(
        "dataset", "class_id", "is_grouped", cluster=pl.when("is_grouped").then("group").otherwise(own)
    )
