"""Accuracies with their intervals, and differences between two ways to answer the same images with their tests.

Two intervals, for two questions. Wilson's: what would other images of these very classes give? By class: what would
other classes like these give? The second is the wider one, and the one that a claim about new classes needs.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from pipeline.evaluation.intervals import (
    Floats,
    bootstrap_p,
    detectable_difference,
    holm,
    interval,
    mcnemar,
    mean_halves,
    resampled_mean,
    wilson,
)
from pipeline.evaluation.metrics import METRICS, PARTS, SUBSETS

Way = tuple[str, str]
"""A model and one of METRICS."""

SHARES = tuple(metric for metric in METRICS if metric != "pass@1")  # of images that are right or not
DIGITS = 4


class Resampled:
    """Scores of the same images by every way to answer, and their means over the same resampled classes.

    Args:
        scored: `metrics.scores` of every model, on the same images.
    """

    def __init__(self, scored: pl.DataFrame, seed: int = 0) -> None:
        rows = scored.sort("dataset", "subset", "class_id", "image_id")
        of = {str(model): rows.filter(model=model) for model in scored["model"].unique(maintain_order=True)}
        self.models = list(of)
        self.ways: list[Way] = [(m, metric) for m in of for metric in METRICS if not of[m][metric].null_count()]
        self.images = of[self.models[0]].select("dataset", "subset", "class_id")
        self.right = np.column_stack([of[model][metric].to_numpy() for model, metric in self.ways])
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

    def of(self, datasets: Sequence[str], part: str) -> tuple[Floats, int] | None:
        """(replicates, ways) of a part, the mean over the data sets, and the fewest classes behind any of it.

        None where there are no such images.
        """
        if part == "hm":
            subsets = [self.of(datasets, subset) for subset in SUBSETS]
            if subsets[0] is None or subsets[1] is None:
                return None
            return mean_halves(subsets[0][0], subsets[1][0]), min(subsets[0][1], subsets[1][1])
        wanted = SUBSETS if part == "total" else (part,)
        means, classes = [], []
        for dataset in datasets:
            there = [(dataset, subset) for subset in wanted if (dataset, subset) in self._means]
            if there:
                sizes = [self.sizes[place] for place in there]
                weighed = (size * self._means[place] for size, place in zip(sizes, there, strict=True))
                means.append(np.asarray(sum(weighed)) / sum(sizes))
                classes.append(sum(self.classes[place] for place in there))
        return (np.mean(means, axis=0), sum(classes)) if means else None

    def rows(self, datasets: Sequence[str], part: str) -> Floats:
        """(images, ways): the scores of the images of a part."""
        wanted = list(SUBSETS) if part in ("total", "hm") else [part]
        holds = self.images["dataset"].is_in(list(datasets)) & self.images["subset"].is_in(wanted)
        return np.asarray(self.right[holds.to_numpy()], np.float64)

    def accuracy(self, datasets: Sequence[str], part: str) -> Floats:
        """(ways,): accuracy of a part, the mean over the data sets that have such images."""
        if part == "hm":
            return mean_halves(*(self.accuracy(datasets, subset) for subset in SUBSETS))
        means = [self.rows([name], part).mean(axis=0) for name in datasets if len(self.rows([name], part))]
        return np.asarray(np.mean(means, axis=0), np.float64)


def _scopes(resampled: Resampled) -> list[tuple[str, list[str]]]:
    """ "all" and, where there are several, each data set by itself."""
    names = resampled.datasets
    return [("all", names), *((name, [name]) for name in names if len(names) > 1)]


def arms(resampled: Resampled) -> pl.DataFrame:
    """One row for every model, data set ("all": their mean), metric and part, with intervals.

    low, high: 95 % by class; wilson_low, wilson_high: 95 % of a share of images, null where it is no such share; n:
    images. Parts without images have no accuracy.
    """
    rows = []
    for scope, names in _scopes(resampled):
        for part in PARTS:
            drawn, images = resampled.of(names, part), resampled.rows(names, part)
            accuracy = resampled.accuracy(names, part) if drawn else None
            for place, (model, metric) in enumerate(resampled.ways):
                row = {"model": model, "dataset": scope, "metric": metric, "part": part, "n": len(images)}
                if drawn and accuracy is not None:
                    row["accuracy"] = accuracy[place]
                    row["low"], row["high"] = interval(drawn[0][:, place], drawn[1])
                    if metric in SHARES and part != "hm" and len(names) == 1:
                        row["wilson_low"], row["wilson_high"] = wilson(int(images[:, place].sum()), len(images))
                rows.append(row)
    ranks = {"model": resampled.models, "metric": METRICS, "part": PARTS}
    by = [pl.col(name).cast(pl.Enum(ranks[name])) if name in ranks else pl.col(name) for name in KEYS]
    return _tidy(rows, ARMS_COLUMNS).sort(by)


KEYS = ("model", "dataset", "metric", "part")
ARMS_COLUMNS = {
    **dict.fromkeys(KEYS, pl.String),
    "n": pl.Int64,
    **dict.fromkeys(("accuracy", "low", "high", "wilson_low", "wilson_high"), pl.Float64),
}
DIFFERENCE_COLUMNS = {
    **dict.fromkeys(("first", "second", "dataset", "part"), pl.String),
    "n": pl.Int64,
    **dict.fromkeys(("difference", "low", "high", "p", "p_holm"), pl.Float64),
    "only_first": pl.Int64,
    "only_second": pl.Int64,
    **dict.fromkeys(("p_mcnemar", "detectable"), pl.Float64),
}


def _tidy(rows: list[dict[str, object]], columns: dict[str, type[pl.DataType]]) -> pl.DataFrame:
    table = pl.DataFrame(rows, schema=columns)
    floats = [name for name, kind in columns.items() if kind is pl.Float64]
    return table.with_columns(pl.col(floats).fill_nan(None).round(DIGITS))


def differences(resampled: Resampled, pairs: Iterable[tuple[Way, Way]]) -> pl.DataFrame:
    """One row for every pair, data set ("all": their mean) and part: second minus first on the same images.

    low, high, p: 95 % interval and two-sided p-value, resampled by class; p_holm: p corrected for the number of pairs;
    only_first, only_second, p_mcnemar: images that only one has right, with McNemar's exact test, null where scores are
    no shares of images; detectable: smallest true difference that so many images, so often answered differently, would
    show in four of five cases. Both count images, and are null for the mean of several data sets, which does not. Parts
    without images have no row.
    """
    wanted, rows = list(pairs), []
    for scope, names in _scopes(resampled):
        for part in PARTS:
            drawn = resampled.of(names, part)
            if drawn is None:
                continue
            images, accuracy, found = resampled.rows(names, part), resampled.accuracy(names, part), []
            for first, second in wanted:
                a, b = resampled.ways.index(first), resampled.ways.index(second)
                changes = drawn[0][:, b] - drawn[0][:, a]
                row: dict[str, object] = {"first": " ".join(first), "second": " ".join(second)}
                row |= {"dataset": scope, "part": part, "n": len(images), "difference": accuracy[b] - accuracy[a]}
                row["low"], row["high"] = interval(changes, drawn[1])
                row["p"] = bootstrap_p(changes, drawn[1])
                if part != "hm" and {first[1], second[1]} <= set(SHARES):
                    only_first = int((images[:, a] > images[:, b]).sum())
                    only_second = int((images[:, b] > images[:, a]).sum())
                    row |= {"only_first": only_first, "only_second": only_second}
                    if len(names) == 1:
                        row["p_mcnemar"] = mcnemar(only_first, only_second)
                        differing = (only_first + only_second) / len(images)
                        row["detectable"] = detectable_difference(len(images), differing)
                found.append(row)
            for row, corrected in zip(found, holm([float(str(row["p"])) for row in found]), strict=True):
                row["p_holm"] = corrected
            rows += found
    return _tidy(rows, DIFFERENCE_COLUMNS)
