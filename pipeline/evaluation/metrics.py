"""Accuracy of every way to answer: on base classes, on novel classes, on all images, and as harmonic mean.

One score between 0 and 1 for every image and way to answer; accuracies are means of these.
"""

from collections.abc import Sequence
from math import comb
from typing import Any

import polars as pl

from pipeline.evaluation.ways import TRUTH_OFFERED, WAYS, measured

SUBSETS = ("base", "novel")
AVERAGES = (*SUBSETS, "total", "hm")
"""What accuracies are given for: each subset, all images, and the harmonic mean of both subsets."""

HEADLINE = (*SUBSETS, "hm")
"""The averages of reports/metrics.json."""

KEYS = ("model", "dataset", "subset", "class_id", "image_id")


def harmonic_mean(base: float, novel: float) -> float:
    """2bn / (b + n); 0 where both are 0."""
    return 2 * base * novel / (base + novel) if base + novel else 0.0


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Chance that at least one of k draws is right, given `correct` right ones among n.

    The unbiased estimator 1 − C(n − c, k) / C(n, k) of Chen et al. 2021 (arXiv 2107.03374). ValueError unless
    0 ≤ correct ≤ n and 1 ≤ k ≤ n.
    """
    if not (0 <= correct <= n and 1 <= k <= n):
        raise ValueError(f"pass@{k} of {correct} right among {n} draws does not exist")
    return 1.0 - comb(n - correct, k) / comb(n, k)


def scores(prepared: pl.DataFrame) -> pl.DataFrame:
    """One row for every prediction, in the same order, with a score between 0 and 1 for each way to answer.

    Args:
        prepared: predictions as `ways.prepare` returns them.

    Returns:
        model, dataset, subset, class_id, image_id and a column for each of WAYS, null where a model does not have that
        way. An image without an answer is scored 0.
    """
    scored = prepared.select(*KEYS, *(way.scored for way in WAYS))
    models = prepared.group_by("model", maintain_order=True)
    own = {str(model): {way.name for way in measured(rows)} for (model,), rows in models}
    having = {way.name: [model for model, names in own.items() if way.name in names] for way in WAYS}
    return scored.with_columns(
        pl.when(pl.col("model").is_in(models)).then(name).alias(name) for name, models in having.items()
    )


def averages(scored: pl.DataFrame, digits: int = 4) -> dict[str, dict[str, Any]]:
    """For each way to answer the accuracies on both subsets and on all images, their harmonic mean, and image counts.

    Several data sets count the same, whatever their size: an accuracy is the mean over the data sets that have such
    images, `hm` the harmonic mean of these means, and `mean_hm` the mean of the data sets' own harmonic means. A subset
    without images, as with few shots, is null; a way that the model does not have is left out.

    Args:
        scored: `scores` of one model.
        digits: decimals of the accuracies.
    """
    names = [way.name for way in WAYS]
    counts = {f"n_{subset}": scored.filter(subset=subset).height for subset in SUBSETS}
    subsets = scored.group_by("dataset", "subset").agg(pl.col(names).mean())
    totals = scored.group_by("dataset").agg(pl.col(names).mean()).with_columns(subset=pl.lit("total"))
    means = pl.concat([subsets, totals.select(subsets.columns)]).sort("dataset").rows_by_key(["subset"], named=True)
    result: dict[str, dict[str, Any]] = {}
    for name in names:
        if scored.height and scored[name].null_count() == scored.height:
            continue
        own = {subset: {row["dataset"]: row[name] for row in means.get(subset, [])} for subset in (*SUBSETS, "total")}
        base, novel, total = (_mean(list(values.values())) for values in own.values())
        accuracies = {"base": base, "novel": novel, "total": total, "hm": _hm(base, novel)}
        if len(own["total"]) > 1:
            both = [_hm(own["base"].get(dataset), own["novel"].get(dataset)) for dataset in own["total"]]
            accuracies["mean_hm"] = _mean(both)
        result[name] = {
            key: value if value is None else round(value, digits) for key, value in accuracies.items()
        } | counts
    return result


def by_dataset(scored: pl.DataFrame) -> dict[str, Any]:
    """`averages` of each data set, where there are several; else nothing."""
    rows = {str(name): rows for (name,), rows in scored.group_by("dataset", maintain_order=True)}
    return {name: averages(rows[name]) for name in sorted(rows)} if len(rows) > 1 else {}


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None


def _hm(base: float | None, novel: float | None) -> float | None:
    return None if base is None or novel is None else harmonic_mean(base, novel)


def share(holds: pl.Series) -> float:
    """Mean of a column of truth values, null as false, rounded; 0 without rows."""
    return round(float(holds.fill_null(False).cast(pl.Float64).mean() or 0.0), 4)  # type: ignore[arg-type]


def letter_choice(predictions: pl.DataFrame) -> dict[str, Any]:
    """How well the letter is chosen in second questions that offer the truth.

    accuracy: share of right letters among these `n` questions; chance: the mean of 1 / number of options, which random
    letters would reach on them. questions: all second questions; rotated: those with several orders of the
    options; flips: the share of the latter in which not every order led to the same class; every_order: the share of
    right answers over all orders, where the truth was offered.
    """
    questions = predictions.filter(pl.col("choice_text").is_not_null())
    offered = questions.filter(TRUTH_OFFERED)
    chance = (1 / offered["options"].list.len()).mean()
    several = questions.filter(pl.col("rotated").list.len() > 0)
    answers = pl.concat_list("two_step", "rotated")
    distinct = several.select(answers.list.n_unique()).to_series()
    each_order = several.filter(TRUTH_OFFERED).select("class_id", answer=answers).explode("answer")
    return {
        "accuracy": share(offered["two_step"] == offered["class_id"]),
        "chance": round(float(chance or 0.0), 4),  # type: ignore[arg-type]
        "n": offered.height,
        "questions": questions.height,
        "flips": share(distinct > 1),
        "every_order": share(each_order["answer"] == each_order["class_id"]),
        "rotated": several.height,
    }


def mistakes(predictions: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Why two-step answers are wrong, as shares of the images of a subset; with the right answers they add up to 1.

    not_offered: the truth is not among the options; else unreadable: no letter could be parsed; else wrong_letter.
    Several data sets count the same, as in `averages`.
    """
    kinds = {
        "not_offered": ~TRUTH_OFFERED,
        "wrong_letter": TRUTH_OFFERED & pl.col("two_step").is_not_null() & (pl.col("two_step") != pl.col("class_id")),
        "unreadable": TRUTH_OFFERED & pl.col("two_step").is_null(),
    }
    rows = predictions.select("dataset", "subset", **kinds)
    result: dict[str, dict[str, float]] = {}
    for subset in (*SUBSETS, "total"):
        own = rows if subset == "total" else rows.filter(subset=subset)
        if own.height:
            means = own.group_by("dataset", maintain_order=True).agg(pl.col(*kinds).mean()).select(*kinds).mean()
            result[subset] = {kind: round(means[kind][0], 4) for kind in kinds} | {"n": own.height}
    return result


def draws_per_image(predictions: pl.DataFrame) -> int:
    """K: the most draws of an image, which all have unless drawing was stopped early; 0 without images."""
    return int(predictions["draws"].list.len().max() or 0)  # type: ignore[arg-type]


def status_counts(predictions: pl.DataFrame) -> dict[str, dict[str, int]]:
    """How many greedy answers, draws and second steps have which status."""
    columns = {
        "greedy": predictions["greedy_status"],
        "draws": predictions["draw_statuses"].explode().drop_nulls(),
        "second_step": predictions["status"],
    }
    return {name: dict(sorted(column.value_counts().iter_rows())) for name, column in columns.items()}
