"""Accuracies with their intervals, and differences between two ways to answer the same images with their tests.

There are two kinds of intervals. Wilson's: what would other images of these classes give? Between clusters of classes:
what would other classes like these give? The second is wider, and the one that a claim about new classes needs.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from pipeline.evaluation.clusters import ClusteredScores, ModelWay
from pipeline.evaluation.groups import DIGITS
from pipeline.evaluation.intervals import (
    detectable_difference,
    difference_interval,
    holm,
    mcnemar,
    p_value,
    share_interval,
    wilson,
)
from pipeline.evaluation.metrics import AVERAGES
from pipeline.evaluation.ways import WAYS, answering, names, way
from pipeline.method.predictions import UNION

KEYS = ("model", "dataset", "metric", "subset")
ACCURACIES = {
    **dict.fromkeys(KEYS, pl.String),
    "n": pl.Int64,
    **dict.fromkeys(("accuracy", "low", "high", "wilson_low", "wilson_high"), pl.Float64),
    "clusters": pl.Int64,
    "cluster": pl.String,
}
DIFFERENCES = {
    **dict.fromkeys(("question", "first", "second", "dataset", "subset"), pl.String),
    "n": pl.Int64,
    **dict.fromkeys(("difference", "low", "high", "p", "p_holm"), pl.Float64),
    "only_first": pl.Int64,
    "only_second": pl.Int64,
    **dict.fromkeys(("p_mcnemar", "detectable"), pl.Float64),
}

Pair = tuple[ModelWay, ModelWay]
"""Two ways to answer that are compared: second minus first."""


def _scopes(scores: ClusteredScores) -> list[tuple[str, list[str]]]:
    """ "all" and, where there are several, each data set by itself."""
    datasets = scores.datasets
    return [("all", datasets), *((name, [name]) for name in datasets if len(datasets) > 1)]


def accuracies(scores: ClusteredScores) -> pl.DataFrame:
    """One row for every model, data set ("all": their mean), way to answer and one of AVERAGES, with intervals.

    low, high: 95 % between clusters of classes; wilson_low, wilson_high: 95 % of a share of images, null where it is no
    such share; n: images; clusters: how many classes or groups of classes are behind it, cluster: which of them. A
    subset without images has no accuracy.
    """
    rows = []
    for scope, datasets in _scopes(scores):
        for average in AVERAGES:
            estimate, images = scores.estimate(datasets, average), scores.scores(datasets, average)
            low, high = share_interval(estimate) if estimate else (None, None)
            clusters, kind = scores.clusters(datasets, average)
            for place, (model, name) in enumerate(scores.ways):
                row = {"model": model, "dataset": scope, "metric": name, "subset": average, "n": len(images)}
                row |= {"clusters": clusters, "cluster": kind}
                if estimate is not None and low is not None and high is not None:
                    row |= {"accuracy": estimate.value[place], "low": low[place], "high": high[place]}
                    if way(name).is_binary and average != "hm" and len(datasets) == 1:
                        row["wilson_low"], row["wilson_high"] = wilson(int(images[:, place].sum()), len(images))
                rows.append(row)
    ranks = {"model": scores.models, "metric": names(), "subset": AVERAGES}
    by = [pl.col(key).cast(pl.Enum(ranks[key])) if key in ranks else pl.col(key) for key in KEYS]
    return _table(rows, ACCURACIES).sort(by)


def _table(rows: list[dict[str, object]], columns: dict[str, type[pl.DataType]]) -> pl.DataFrame:
    table = pl.DataFrame(rows, schema=columns)
    floats = [name for name, kind in columns.items() if kind is pl.Float64]
    return table.with_columns(pl.col(floats).fill_nan(None).round(DIGITS))


def differences(scores: ClusteredScores, questions: dict[str, list[Pair]]) -> pl.DataFrame:
    """One row for every pair, data set ("all": their mean) and one of AVERAGES: second minus first, on the same images.

    low, high, p: 95 % interval and two-sided p-value between clusters of classes; p_holm: p corrected for all rows of
    the question, those about the mean of several data sets and those about each being two questions; only_first,
    only_second, p_mcnemar: images that only one has right, with McNemar's exact test, null where scores are no shares
    of images or of several data sets; detectable: the minimum difference that would be significant with a power of
    80 % at the same spread. A subset without images has no row.

    Args:
        questions: the pairs that answer each question that is asked of the run.
    """
    rows: list[dict[str, object]] = []
    for question, pairs in questions.items():
        scopes: dict[bool, list[dict[str, object]]] = {True: [], False: []}
        for scope, datasets in _scopes(scores):
            for average in AVERAGES:
                block = _differences(scores, pairs, datasets, average)
                scopes[scope == "all"] += [{"question": question, "dataset": scope, **row} for row in block]
        for family in scopes.values():
            for row, corrected in zip(family, holm([float(str(row["p"])) for row in family]), strict=True):
                rows.append(row | {"p_holm": corrected})
    return _table(rows, DIFFERENCES)


def _differences(
    scores: ClusteredScores, pairs: Sequence[Pair], datasets: list[str], average: str
) -> list[dict[str, object]]:
    estimate = scores.differences(datasets, average, pairs) if pairs else None
    if estimate is None:
        return []
    images, rows = scores.scores(datasets, average), []
    (low, high), p, detectable = difference_interval(estimate), p_value(estimate), detectable_difference(estimate)
    for number, (first, second) in enumerate(pairs):
        row: dict[str, object] = {"first": " ".join(first), "second": " ".join(second), "subset": average}
        row |= {"n": len(images), "difference": estimate.value[number], "low": low[number], "high": high[number]}
        row |= {"p": p[number], "detectable": detectable[number]}
        if average != "hm" and way(first[1]).is_binary and way(second[1]).is_binary:
            a, b = (images[:, scores.ways.index(one)] for one in (first, second))
            only_first, only_second = int(np.sum(a > b)), int(np.sum(b > a))
            row |= {"only_first": only_first, "only_second": only_second}
            if len(datasets) == 1:
                row["p_mcnemar"] = mcnemar(only_first, only_second)
        rows.append(row)
    return rows


TRAINING, WAYS_WITHIN = "training", "ways to answer"
"""The questions asked of every run: what did training change, and which way to answer is better?"""

LABEL_SPACE, TRAINING_UNION = "label space", "training, all classes as labels"
"""What does it cost to admit the classes of both subsets as answers, and what did training change then?"""


def questions_to_ask(ways: list[ModelWay]) -> dict[str, list[Pair]]:
    """By question the comparisons that evaluate reports; each question is a family of Holm's correction.

    TRAINING: the trained model with the base model, by every way that both have, except bounds. "<model>": the same
    with each further model; without two-step its one-step answer is also compared with the two-step answer of the
    trained model. WAYS_WITHIN: two-step with the other ways, in each model. LABEL_SPACE: all classes as labels with
    those of the subset, in each model; TRAINING_UNION: TRAINING with all classes as labels.
    """
    every = list(dict.fromkeys(model for model, _ in ways))
    models = [model for model in every if not model.endswith(UNION)]
    subject = subject_of(models)
    questions: dict[str, list[Pair]] = {}
    for model in models:
        if model != subject:
            pairs = [((model, way.name), (subject, way.name)) for way in WAYS if not way.is_bound]
            if (model, "two_step") not in ways:
                pairs.append(((model, "one_step"), (subject, "two_step")))
            questions[TRAINING if model == "base" else model] = pairs
    others = [way for way in answering() if way.name != "two_step"]
    questions[WAYS_WITHIN] = [
        ((model, way.name), (model, "two_step")) if way.headline else ((model, "two_step"), (model, way.name))
        for model in models
        for way in others
    ]
    unbound = [way.name for way in WAYS if not way.is_bound]
    questions[LABEL_SPACE] = [((model, name), (model + UNION, name)) for model in models for name in unbound]
    questions[TRAINING_UNION] = [(("base" + UNION, name), ("trained" + UNION, name)) for name in unbound]
    measured = {name: [pair for pair in pairs if set(pair) <= set(ways)] for name, pairs in questions.items()}
    return {name: pairs for name, pairs in measured.items() if pairs}


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
    return f"{sentence}; minimum detectable difference {100 * row['detectable']:.1f} points at {row['n']} images"
