"""Accuracies with their intervals, and differences between two ways to answer the same images with their tests.

There are two kinds of intervals. Wilson's: what would other images of these classes give? By class: what would other
classes like these give? The second is wider, and the one that a claim about new classes needs.
"""

from collections.abc import Iterable, Sequence

import polars as pl

from pipeline.evaluation.groups import DIGITS
from pipeline.evaluation.intervals import bootstrap_p, detectable_difference, holm, interval, mcnemar, wilson
from pipeline.evaluation.metrics import AVERAGES
from pipeline.evaluation.resampling import ModelWay, Resampled
from pipeline.evaluation.ways import WAYS, answering, names, way

KEYS = ("model", "dataset", "metric", "subset")
ACCURACIES = {
    **dict.fromkeys(KEYS, pl.String),
    "n": pl.Int64,
    **dict.fromkeys(("accuracy", "low", "high", "wilson_low", "wilson_high"), pl.Float64),
}
DIFFERENCES = {
    **dict.fromkeys(("first", "second", "dataset", "subset"), pl.String),
    "n": pl.Int64,
    **dict.fromkeys(("difference", "low", "high", "p", "p_holm"), pl.Float64),
    "only_first": pl.Int64,
    "only_second": pl.Int64,
    **dict.fromkeys(("p_mcnemar", "detectable"), pl.Float64),
}


def _scopes(resampled: Resampled) -> list[tuple[str, list[str]]]:
    """ "all" and, where there are several, each data set by itself."""
    datasets = resampled.datasets
    return [("all", datasets), *((name, [name]) for name in datasets if len(datasets) > 1)]


def accuracies(resampled: Resampled) -> pl.DataFrame:
    """One row for every model, data set ("all": their mean), way to answer and one of AVERAGES, with intervals.

    low, high: 95 % by class; wilson_low, wilson_high: 95 % of a share of images, null where it is no such share; n:
    images. A subset without images has no accuracy.
    """
    rows = []
    for scope, datasets in _scopes(resampled):
        for average in AVERAGES:
            means, images = resampled.replicates(datasets, average), resampled.scores(datasets, average)
            accuracy = resampled.accuracy(datasets, average) if means else None
            for place, (model, name) in enumerate(resampled.ways):
                row = {"model": model, "dataset": scope, "metric": name, "subset": average, "n": len(images)}
                if means and accuracy is not None:
                    row["accuracy"] = accuracy[place]
                    row["low"], row["high"] = interval(means[0][:, place], means[1])
                    if way(name).is_binary and average != "hm" and len(datasets) == 1:
                        row["wilson_low"], row["wilson_high"] = wilson(int(images[:, place].sum()), len(images))
                rows.append(row)
    ranks = {"model": resampled.models, "metric": names(), "subset": AVERAGES}
    by = [pl.col(key).cast(pl.Enum(ranks[key])) if key in ranks else pl.col(key) for key in KEYS]
    return _table(rows, ACCURACIES).sort(by)


def _table(rows: list[dict[str, object]], columns: dict[str, type[pl.DataType]]) -> pl.DataFrame:
    table = pl.DataFrame(rows, schema=columns)
    floats = [name for name, kind in columns.items() if kind is pl.Float64]
    return table.with_columns(pl.col(floats).fill_nan(None).round(DIGITS))


def differences(resampled: Resampled, pairs: Iterable[tuple[ModelWay, ModelWay]]) -> pl.DataFrame:
    """One row for every pair, data set ("all": their mean) and one of AVERAGES: second minus first, on the same images.

    low, high, p: 95 % interval and two-sided p-value, resampled by class; p_holm: p corrected for the number of pairs;
    only_first, only_second, p_mcnemar: images that only one has right, with McNemar's exact test, null where scores are
    no shares of images; detectable: the minimum difference that so many images, so often answered differently, would
    detect with a power of 80 %. The last two count images, and are null for the mean of several data sets. A subset
    without images has no row.
    """
    pairs, rows = list(pairs), []
    for scope, datasets in _scopes(resampled):
        for average in AVERAGES:
            block = _differences(resampled, pairs, scope, datasets, average)
            for row, corrected in zip(block, holm([float(str(row["p"])) for row in block]), strict=True):
                row["p_holm"] = corrected
            rows += block
    return _table(rows, DIFFERENCES)


def _differences(
    resampled: Resampled, pairs: list[tuple[ModelWay, ModelWay]], scope: str, datasets: list[str], average: str
) -> list[dict[str, object]]:
    means = resampled.replicates(datasets, average)
    if means is None:
        return []
    images, accuracy, rows = resampled.scores(datasets, average), resampled.accuracy(datasets, average), []
    for first, second in pairs:
        a, b = resampled.ways.index(first), resampled.ways.index(second)
        changes = means[0][:, b] - means[0][:, a]
        row: dict[str, object] = {"first": " ".join(first), "second": " ".join(second)}
        row |= {"dataset": scope, "subset": average, "n": len(images), "difference": accuracy[b] - accuracy[a]}
        row["low"], row["high"] = interval(changes, means[1])
        row["p"] = bootstrap_p(changes, means[1])
        if average != "hm" and way(first[1]).is_binary and way(second[1]).is_binary:
            only_first = int((images[:, a] > images[:, b]).sum())
            only_second = int((images[:, b] > images[:, a]).sum())
            row |= {"only_first": only_first, "only_second": only_second}
            if len(datasets) == 1:
                row["p_mcnemar"] = mcnemar(only_first, only_second)
                row["detectable"] = detectable_difference(len(images), (only_first + only_second) / len(images))
        rows.append(row)
    return rows


def pairs_to_compare(ways: list[ModelWay]) -> list[tuple[ModelWay, ModelWay]]:
    """The comparisons that evaluate reports: of the trained model with each other one, then two-step within each.

    Models are compared by every way that both have, except bounds; a model without two-step also by its one-step answer
    with the two-step answer of the trained model.
    """
    models = list(dict.fromkeys(model for model, _ in ways))
    subject = subject_of(models)
    between = [
        ((model, way.name), (subject, way.name))
        for model in models
        if model != subject
        for way in WAYS
        if not way.is_bound
    ]
    between += [((m, "one_step"), (subject, "two_step")) for m in models if (m, "two_step") not in ways]
    others = [way for way in answering() if way.name != "two_step"]
    within = [
        ((model, way.name), (model, "two_step")) if way.headline else ((model, "two_step"), (model, way.name))
        for model in models
        for way in others
    ]
    return [pair for pair in between + within if set(pair) <= set(ways)]


def subject_of(models: Sequence[str]) -> str:
    """The model that a run was for: the trained one, or the first where nothing was trained."""
    return "trained" if "trained" in models else models[0]


def gain_sentence(differences: pl.DataFrame) -> str:
    """What training did to two-step on all images, and whether that is significant; empty without such a row."""
    rows = differences.filter(first="base two_step", second="trained two_step", dataset="all", subset="total")
    if not rows.height:
        return ""
    row = rows.row(0, named=True)
    sentence = f"training changes two-step by {100 * row['difference']:+.1f} points"
    if row["low"] is None:
        return f"{sentence} (one class: no interval)"
    sentence += f" ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
    if row["low"] > 0 or row["high"] < 0:
        return sentence
    sentence += ": not significant"
    if row["detectable"] is None:
        return sentence
    return f"{sentence}; minimum detectable difference {100 * row['detectable']:.1f} points at {row['n']} images"
