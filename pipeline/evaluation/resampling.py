"""Accuracies over resampled classes, the same resamples for every way to answer."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from pipeline.evaluation.intervals import Floats, harmonic_means, resampled_mean
from pipeline.evaluation.metrics import SUBSETS
from pipeline.evaluation.ways import names

ModelWay = tuple[str, str]
"""A model and the name of a way to answer."""


class Resampled:
    """Scores of the same images by every model and way to answer, and their means over the same resampled classes.

    Args:
        scores: `metrics.scores` of every model, on the same images.
    """

    def __init__(self, scores: pl.DataFrame, seed: int = 0) -> None:
        rows = scores.sort("dataset", "subset", "class_id", "image_id")
        own = {str(model): rows.filter(model=model) for model in scores["model"].unique(maintain_order=True)}
        self.models = list(own)
        self.ways: list[ModelWay] = [(m, way) for m in own for way in names() if not own[m][way].null_count()]
        self.images = own[self.models[0]].select("dataset", "subset", "class_id")
        self.right = np.column_stack([own[model][way].to_numpy() for model, way in self.ways])
        self.sizes: dict[tuple[str, str], int] = {}
        self.classes: dict[tuple[str, str], int] = {}
        self._means: dict[tuple[str, str], Floats] = {}
        blocks = self.images.with_row_index().group_by("dataset", "subset", maintain_order=True)
        for number, ((dataset, subset), block) in enumerate(blocks):
            place, right = (str(dataset), str(subset)), self.right[block["index"].to_numpy()]
            starts = np.unique(block["class_id"].to_numpy(), return_index=True)[1]
            self.sizes[place], self.classes[place] = block.height, len(starts)
            counts = np.diff(np.append(starts, block.height)).astype(float)
            self._means[place] = resampled_mean(np.add.reduceat(right, starts), counts, 1000 * seed + number)

    @property
    def datasets(self) -> list[str]:
        return sorted({dataset for dataset, _ in self.classes})

    def replicates(self, datasets: Sequence[str], average: str) -> tuple[Floats, int] | None:
        """(replicates, ways) of one of AVERAGES, the mean over the data sets, and the fewest classes behind any of it.

        None where there are no such images.
        """
        if average == "hm":
            subsets = [self.replicates(datasets, subset) for subset in SUBSETS]
            if subsets[0] is None or subsets[1] is None:
                return None
            return harmonic_means(subsets[0][0], subsets[1][0]), min(subsets[0][1], subsets[1][1])
        means, classes = [], []
        for dataset in datasets:
            subsets_of = SUBSETS if average == "total" else (average,)
            places = [(dataset, subset) for subset in subsets_of if (dataset, subset) in self._means]
            if places:
                sizes = [self.sizes[place] for place in places]
                sums = (size * self._means[place] for size, place in zip(sizes, places, strict=True))
                means.append(np.asarray(sum(sums)) / sum(sizes))
                classes.append(sum(self.classes[place] for place in places))
        return (np.mean(means, axis=0), sum(classes)) if means else None

    def scores(self, datasets: Sequence[str], average: str) -> Floats:
        """(images, ways): the scores of the images behind one of AVERAGES."""
        subsets = list(SUBSETS) if average in ("total", "hm") else [average]
        holds = self.images["dataset"].is_in(list(datasets)) & self.images["subset"].is_in(subsets)
        return np.asarray(self.right[holds.to_numpy()], np.float64)

    def accuracy(self, datasets: Sequence[str], average: str) -> Floats:
        """(ways,): one of AVERAGES, the mean over the data sets that have such images."""
        if average == "hm":
            return harmonic_means(*(self.accuracy(datasets, subset) for subset in SUBSETS))
        blocks = [self.scores([name], average) for name in datasets]
        return np.asarray(np.mean([block.mean(axis=0) for block in blocks if len(block)], axis=0), np.float64)
