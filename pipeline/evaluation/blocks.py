"""Scores in blocks, the images of one data set and subset each, and estimates of their averages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.estimates import (
    PRIOR_DF,
    PRIOR_DF_OF_DIFFERENCES,
    Estimate,
    Floats,
    Spread,
    harmonic_means,
    joint_spread,
    shared,
    smoothed_share,
    spread,
    sum_of_variances,
    variance_between,
)
from pipeline.evaluation.metrics import SUBSETS

Place = tuple[str, str]
"""A data set and a subset of its classes."""


@dataclass(frozen=True)
class Block:
    """The images of one data set and subset.

    Attributes:
        scores: (images, ways), sorted by cluster.
        starts: (clusters,), the first row of each cluster.
        names: of the clusters; empty where none is in another block.
    """

    scores: Floats
    starts: NDArray[np.int64]
    names: tuple[str, ...] = ()

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
        spreads = {place: self._spread(place, slope, None, len(slopes)) for place, slope in slopes.items()}
        center = self._average(datasets, average, len(slopes))
        return Estimate(self._average(datasets, average), center, *self._variance(spreads, PRIOR_DF))

    def differences(
        self, datasets: Sequence[str], average: str, first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> Estimate | None:
        """Differences of columns, `second` minus `first`, in one of AVERAGES; None where there are no such images."""
        slopes = self._slopes(datasets, average)
        if slopes is None:
            return None
        spreads = {place: self._spread(place, slope, (first, second), len(slopes)) for place, slope in slopes.items()}
        averages = self._average(datasets, average)
        value = averages[second] - averages[first]
        return Estimate(value, value, *self._variance(spreads, PRIOR_DF_OF_DIFFERENCES))

    def _spread(
        self, place: Place, slope: Floats, pairs: tuple[NDArray[np.int64], NDArray[np.int64]] | None, blocks: int
    ) -> Spread:
        """What a block adds to the spread of an average of columns, or of differences of `pairs` of columns."""
        block = self.blocks[place]
        if pairs is None:
            return spread(block.scores * slope, block.starts, slope, blocks)
        first, second = pairs
        changes = block.scores[:, second] * slope[second] - block.scores[:, first] * slope[first]
        return spread(changes, block.starts, np.maximum(slope[first], slope[second]), blocks)

    def _variance(self, spreads: Mapping[Place, Spread], prior_df: float) -> tuple[Floats, Floats]:
        """Variance and degrees of freedom of a sum over blocks.

        Blocks are independent, but those of a data set whose subsets have clusters in common, as species of one genus
        in both.
        """
        variances, dfs = [], []
        for dataset in dict.fromkeys(dataset for dataset, _ in spreads):
            own = {place: one for place, one in spreads.items() if place[0] == dataset}
            names = [self.blocks[place].names for place in own]
            joint = [joint_spread(names, list(own.values()))] if shared(names) else own.values()
            for one in joint:
                variance, df = variance_between(one, len(spreads), prior_df)
                variances.append(variance)
                dfs.append(df)
        return sum_of_variances(variances, dfs)
