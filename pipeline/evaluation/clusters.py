"""Scores of the same images by every model and way to answer, in clusters of correlated images, and their averages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.evaluation.intervals import (
    PRIOR_DF_OF_DIFFERENCES,
    Estimate,
    Floats,
    harmonic_means,
    smoothed_share,
    sum_of_variances,
    variance_of_mean,
)
from pipeline.evaluation.metrics import SUBSETS
from pipeline.evaluation.ways import names

ModelWay = tuple[str, str]
"""A model and the name of a way to answer."""

Place = tuple[str, str]
"""A data set and a subset of its classes."""


@dataclass(frozen=True)
class Block:
    """The images of one data set and subset: scores, (images, ways), sorted by cluster; first row of each cluster."""

    scores: Floats
    starts: NDArray[np.int64]

    def means(self) -> Floats:
        """(ways,): their means."""
        return np.asarray(self.scores.mean(axis=0), np.float64)

    def smoothed_means(self, blocks: int) -> Floats:
        """(ways,): the same for an average over so many blocks, never 0 or 1."""
        return np.asarray(smoothed_share(self.means(), len(self.scores), len(self.starts), blocks), np.float64)


@dataclass(frozen=True)
class Blocks:
    """Scores in blocks, the images of one data set and subset each, and estimates of their averages.

    Averages are those of AVERAGES; several data sets have the same weight, whatever their size.
    """

    blocks: Mapping[Place, Block]

    @property
    def columns(self) -> int:
        """The number of ways to answer."""
        return int(next(iter(self.blocks.values())).scores.shape[1])

    def _weights(self, datasets: Sequence[str], average: str) -> dict[Place, float]:
        """By block its weight in an average that is linear in the means of the blocks; empty without images."""
        subsets = SUBSETS if average == "total" else (average,)
        places = {name: [(name, subset) for subset in subsets if (name, subset) in self.blocks] for name in datasets}
        counts = {place: len(self.blocks[place].scores) for own in places.values() for place in own}
        having = [own for own in places.values() if own]
        return {place: counts[place] / sum(counts[one] for one in own) / len(having) for own in having for place in own}

    def _slopes(self, datasets: Sequence[str], average: str) -> Mapping[Place, Floats] | None:
        """By block the derivative of one of AVERAGES by the block's mean, (columns,); None where it has no images."""
        if average != "hm":
            weights = self._weights(datasets, average)
            return {place: np.full(self.columns, weight) for place, weight in weights.items()} or None
        slopes = [self._slopes(datasets, subset) for subset in SUBSETS]
        if slopes[0] is None or slopes[1] is None:
            return None
        count = len(slopes[0]) + len(slopes[1])
        means = [self._mean(own, count) for own in slopes]  # type: ignore[arg-type]
        total = means[0] + means[1]
        return {
            place: slope * 2 * (other / total) ** 2
            for own, other in zip(slopes, reversed(means), strict=True)
            for place, slope in own.items()  # type: ignore[union-attr]
        }

    def _mean(self, slopes: Mapping[Place, Floats], smoothed_over: int = 0) -> Floats:
        """The sum of slope × mean; with `smoothed_over`, of means smoothed for an average over so many blocks."""
        means = (
            slope * (self.blocks[place].smoothed_means(smoothed_over) if smoothed_over else self.blocks[place].means())
            for place, slope in slopes.items()
        )
        return np.asarray(sum(means), np.float64)

    def _average(self, datasets: Sequence[str], average: str, smoothed_over: int = 0) -> Floats:
        if average == "hm":
            return harmonic_means(*(self._average(datasets, subset, smoothed_over) for subset in SUBSETS))
        return self._mean(self._slopes(datasets, average) or {}, smoothed_over)

    def estimate(self, datasets: Sequence[str], average: str) -> Estimate | None:
        """One of AVERAGES of every column, the mean over the data sets; None where there are no such images."""
        slopes = self._slopes(datasets, average)
        if slopes is None:
            return None
        variances, dfs = [], []
        for place, slope in slopes.items():
            block = self.blocks[place]
            variance, df = variance_of_mean(block.scores, block.starts, np.ones(self.columns), len(slopes))
            variances.append(slope**2 * variance)
            dfs.append(df)
        center = self._average(datasets, average, len(slopes))
        return Estimate(self._average(datasets, average), center, *sum_of_variances(variances, dfs))

    def differences(
        self, datasets: Sequence[str], average: str, first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> Estimate | None:
        """Differences of columns, `second` minus `first`, in one of AVERAGES; None where there are no such images."""
        slopes = self._slopes(datasets, average)
        if slopes is None:
            return None
        variances, dfs = [], []
        for place, slope in slopes.items():
            block = self.blocks[place]
            changes = block.scores[:, second] * slope[second] - block.scores[:, first] * slope[first]
            scale = np.maximum(slope[first], slope[second])
            variance, df = variance_of_mean(changes, block.starts, scale, len(slopes), PRIOR_DF_OF_DIFFERENCES)
            variances.append(variance)
            dfs.append(df)
        averages = self._average(datasets, average)
        value = averages[second] - averages[first]
        return Estimate(value, value, *sum_of_variances(variances, dfs))


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
            starts = np.unique(block["cluster"].to_numpy(), return_index=True)[1]
            blocks[str(dataset), str(subset)] = Block(self.right[block["index"].to_numpy()], np.sort(starts))
        self.blocks = Blocks(blocks)

    @property
    def datasets(self) -> list[str]:
        return sorted(self.images["dataset"].unique())

    def clusters(self, datasets: Sequence[str], average: str) -> tuple[int, str]:
        """How many clusters are behind one of AVERAGES, and what they are: class, group, or class or group."""
        own = self.images.filter(pl.col("dataset").is_in(list(datasets)), pl.col("subset").is_in(_subsets(average)))
        kinds = ["group" if is_grouped else "class" for is_grouped in own["is_grouped"].unique().sort()]
        return own.select("dataset", "subset", "cluster").n_unique(), " or ".join(kinds)

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
