"""Accuracy of every way to answer, on the base half, the novel half, all images, and as the halves' harmonic mean.

One score between 0 and 1 for every image and way to answer; all else here are means of these.
"""

from collections.abc import Mapping, Sequence
from math import comb
from typing import Any

import polars as pl

from pipeline.method.votes import NONE, matrix, running_vote

SUBSETS = ("base", "novel")
PARTS = (*SUBSETS, "total", "hm")
ARMS = ("one_step", "vote", "two_step", "cascade", "rotated")
"""Ways to answer that give one class: the greedy answer, the vote, the choice among the options; the vote where it is
sure enough and the choice elsewhere; the vote over choices among the options in several orders."""

METRICS = ("pass@1", "pass@K", *ARMS, "oracle")
"""pass@1 is the mean over the draws; pass@K asks for one right draw, oracle for the truth among the options."""


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


def measured(predictions: pl.DataFrame) -> tuple[str, ...]:
    """Those of METRICS that one model has: without draws its answer alone, and its choice where it made any."""
    if predictions["draws"].list.len().sum():
        return METRICS
    chose = predictions["choice_text"].is_not_null().any()
    return ("one_step", "two_step", "oracle") if chose else ("one_step", "oracle")


OFFERED = (
    pl.col("options").list.eval(pl.element().struct.field("class_id")).list.contains(pl.col("class_id"))
).fill_null(False)
"""Whether the truth is among the options."""

VOTE_SHARE = pl.col("options").list.eval(pl.element().struct.field("votes")).list.max().fill_null(0) / pl.col(
    "draws"
).list.len().clip(lower_bound=1)
"""Share of the draws that name the class with the most votes."""


def right_draws(predictions: pl.DataFrame) -> pl.Series:
    """How many of each image's draws name its class."""
    draws, truths = matrix(predictions["draws"]), predictions["class_id"].to_numpy()
    return pl.Series("right", (draws == truths[:, None]).sum(axis=1), pl.Int64)


def chosen(predictions: pl.DataFrame, vote_thresholds: Mapping[str, float] = {}) -> pl.DataFrame:
    """One row for every prediction, in the same order: model, image_id and the class by each of ARMS, null for none.

    Args:
        gates: vote share by model from which on the gated answer is the vote; without one it is never.
    """
    orders = matrix(predictions.select(pl.concat_list("two_step", "rotated")).to_series())
    rotated = pl.Series("_rotated", running_vote(orders)[:, -1])
    sure = pl.col("model").replace_strict(dict(vote_thresholds), default=None, return_dtype=pl.Float64) <= VOTE_SHARE
    return predictions.with_columns(rotated).select(
        *("model", "image_id", "one_step", "vote", "two_step"),
        cascade=pl.when(sure).then("vote").otherwise("two_step"),
        rotated=pl.when(pl.col("_rotated") != NONE).then("_rotated"),
    )


def scores(predictions: pl.DataFrame, vote_thresholds: Mapping[str, float] = {}) -> pl.DataFrame:
    """One row for every prediction, with a score between 0 and 1 for each of METRICS.

    Args:
        gates: as for `chosen`.

    Returns:
        model, dataset, half, class_id, image_id and the METRICS, null where a model has no such metric. A null answer
        is a wrong answer: every row counts.
    """
    answers, truth = chosen(predictions, vote_thresholds), predictions["class_id"]
    right, drawn = right_draws(predictions), pl.col("draws").list.len()
    known = {str(model): measured(rows) for (model,), rows in predictions.group_by("model", maintain_order=True)}
    lacking = {metric: [model for model, own in known.items() if metric not in own] for metric in METRICS}
    scored = predictions.with_columns(right).select(
        *("model", "dataset", "subset", "class_id", "image_id"),
        (pl.col("right") / drawn).alias("pass@1"),
        (pl.col("right") > 0).cast(pl.Float64).alias("pass@K"),
        *((answers[arm] == truth).fill_null(False).cast(pl.Float64).alias(arm) for arm in ARMS),
        OFFERED.cast(pl.Float64).alias("oracle"),
    )
    return scored.with_columns(
        pl.when(~pl.col("model").is_in(models)).then(metric).alias(metric) for metric, models in lacking.items()
    )


def by_part(scored: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """For each metric the accuracy on both halves, on all images, the harmonic mean, and the number of images.

    Several data sets count alike, whatever their size: an accuracy is the mean over the data sets that have such
    images, `hm` the harmonic mean of these means, and `mean_hm` the mean of the data sets' own harmonic means. A half
    without images, as with few shots, is null; a metric that the model lacks is left out.

    Args:
        scored: `scores` of one model.
    """
    counts = {subset: scored.filter(subset=subset).height for subset in SUBSETS}
    subsets = scored.group_by("dataset", "subset").agg(pl.col(METRICS).mean())
    totals = scored.group_by("dataset").agg(pl.col(METRICS).mean()).with_columns(subset=pl.lit("total"))
    means = pl.concat([subsets, totals.select(subsets.columns)]).sort("dataset").rows_by_key(["subset"], named=True)
    sets = scored["dataset"].n_unique()
    found: dict[str, dict[str, Any]] = {}
    for metric in METRICS:
        if scored.height and scored[metric].null_count() == scored.height:
            continue
        own = {part: {row["dataset"]: row[metric] for row in means.get(part, [])} for part in (*SUBSETS, "total")}
        base, novel, total = (_mean(list(own[part].values())) for part in own)
        found[metric] = {"base": base, "novel": novel, "total": total, "hm": _hm(base, novel)}
        if sets > 1:
            both = [_hm(own["base"].get(name), own["novel"].get(name)) for name in own["total"]]
            found[metric]["mean_hm"] = _mean(both)
        found[metric] = {key: value if value is None else round(value, 4) for key, value in found[metric].items()}
        found[metric] |= {f"n_{subset}": counts[subset] for subset in SUBSETS}
    return found


def by_dataset(scored: pl.DataFrame) -> dict[str, Any]:
    """`by_part` of each data set by itself, where there are several; else nothing."""
    rows = {str(name): rows for (name,), rows in scored.group_by("dataset", maintain_order=True)}
    return {name: by_part(rows[name]) for name in sorted(rows)} if len(rows) > 1 else {}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _hm(base: float | None, novel: float | None) -> float | None:
    return None if base is None or novel is None else harmonic_mean(base, novel)


def share(holds: pl.Series) -> float:
    """Mean of a column of truth values, null as false, rounded; 0 without rows."""
    return round(float(holds.fill_null(False).cast(pl.Float64).mean() or 0.0), 4)  # type: ignore[arg-type]


def letter_choice(predictions: pl.DataFrame) -> dict[str, Any]:
    """How well the letter is chosen where a question was asked and the truth was among the options.

    `chance` is the mean of 1 / number of options: what blind guessing would reach on the same questions. Of the
    `turned` questions, those asked in several orders, `flips` is the share in which not every order led to the same
    class, and `every_order` the share of right answers over all orders, where the truth was offered.
    """
    asked = predictions.filter(pl.col("choice_text").is_not_null())
    offered = asked.filter(OFFERED)
    chance = (1 / offered["options"].list.len()).mean()
    several = asked.filter(pl.col("rotated").list.len() > 0)
    orders = several.select(pl.concat_list("two_step", "rotated").list.n_unique()).to_series()
    rotated = several.filter(OFFERED).select("class_id", answer=pl.concat_list("two_step", "rotated")).explode("answer")
    return {
        "accuracy": share(offered["two_step"] == offered["class_id"]),
        "chance": round(float(chance or 0.0), 4),  # type: ignore[arg-type]
        "n": offered.height,
        "asked": asked.height,
        "flips": share(orders > 1),
        "every_order": share(rotated["answer"] == rotated["class_id"]),
        "rotated": several.height,
    }


def mistakes(predictions: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Where two steps go wrong, as shares of the images of each part, which with those right make 1.

    not_offered: the truth is not among the options; else unreadable: no letter was given; else wrong_letter. Several
    data sets count alike, as in `by_part`.
    """
    rows = predictions.select(
        "dataset",
        "subset",
        not_offered=~OFFERED,
        wrong_letter=OFFERED & pl.col("two_step").is_not_null() & (pl.col("two_step") != pl.col("class_id")),
        unreadable=OFFERED & pl.col("two_step").is_null(),
    )
    found: dict[str, dict[str, float]] = {}
    for part in (*SUBSETS, "total"):
        of = rows if part == "total" else rows.filter(subset=part)
        if of.height:
            kinds = ("not_offered", "wrong_letter", "unreadable")
            means = of.group_by("dataset", maintain_order=True).agg(pl.col(kinds).mean()).select(kinds).mean()
            found[part] = {kind: round(means[kind][0], 4) for kind in kinds} | {"n": of.height}
    return found


def draws_per_image(predictions: pl.DataFrame) -> int:
    """K: the most draws of an image, which all have unless drawing was stopped early; 0 without images."""
    return int(predictions["draws"].list.len().max() or 0)  # type: ignore[arg-type]


def status_counts(predictions: pl.DataFrame) -> dict[str, dict[str, int]]:
    """How many greedy answers, draws and second steps ended in which status."""
    columns = {
        "greedy": predictions["greedy_status"],
        "draws": predictions["draw_statuses"].explode().drop_nulls(),
        "second_step": predictions["status"],
    }
    return {name: dict(sorted(column.value_counts().iter_rows())) for name, column in columns.items()}
