"""Accuracy of every way to answer, on the base half, the novel half and as their harmonic mean."""

from collections.abc import Sequence
from math import comb
from typing import Any

import polars as pl

HALVES = ("base", "novel")
ARMS = ("one_step", "vote", "two_step")


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


def scores(predictions: pl.DataFrame) -> dict[str, pl.Series]:
    """One score between 0 and 1 for every row, by metric: pass@1, pass@K, one_step (greedy), vote, two_step.

    K is the number of draws of the image. A null answer is a wrong answer: every row counts.
    """
    truths = predictions["class_id"].to_list()
    draws = predictions["draws"].to_list()
    correct = [(len(named), named.count(truth)) for named, truth in zip(draws, truths, strict=True)]
    passes = {
        "pass@1": pl.Series([pass_at_k(n, right, 1) for n, right in correct], dtype=pl.Float64),
        "pass@K": pl.Series([pass_at_k(n, right, n) for n, right in correct], dtype=pl.Float64),
    }
    answers = {arm: (predictions[arm] == predictions["class_id"]).fill_null(False).cast(pl.Float64) for arm in ARMS}
    return {**passes, **answers}


def by_half(predictions: pl.DataFrame) -> dict[str, Any]:
    """For each metric the accuracy on both halves, their harmonic mean, and the number of images behind each.

    Several data sets count alike, whatever their size: an accuracy is the mean over the data sets that have such
    images, `hm` the harmonic mean of these means, and `mean_hm` the mean of the data sets' own harmonic means. A half
    without images, as with few shots, is null.
    """
    counts = {half: predictions.filter(half=half).height for half in HALVES}
    sets = [_accuracies(rows) for _, rows in predictions.group_by("dataset", maintain_order=True)]
    found = {}
    for metric in ("pass@1", "pass@K", *ARMS):
        base, novel = (_mean_of([accuracies[metric][half] for accuracies in sets]) for half in HALVES)
        found[metric] = {"base": base, "novel": novel, "hm": _hm(base, novel)}
        if len(sets) > 1:
            own = [_hm(accuracies[metric]["base"], accuracies[metric]["novel"]) for accuracies in sets]
            found[metric]["mean_hm"] = _mean_of(own)
        found[metric] = {key: value if value is None else round(value, 4) for key, value in found[metric].items()}
        found[metric] |= {f"n_{half}": counts[half] for half in HALVES}
    return found


def by_dataset(predictions: pl.DataFrame) -> dict[str, Any]:
    """`by_half` of each data set by itself, where there are several; else nothing."""
    rows = {str(name): rows for (name,), rows in predictions.group_by("dataset", maintain_order=True)}
    return {name: by_half(rows[name]) for name in sorted(rows)} if len(rows) > 1 else {}


def _accuracies(predictions: pl.DataFrame) -> dict[str, dict[str, float | None]]:
    """Accuracy by metric and half; None where a half has no images."""
    halves = {half: scores(predictions.filter(half=half)) for half in HALVES}
    metrics = halves["base"].keys()
    return {
        metric: {half: _mean(found[metric]) if found[metric].len() else None for half, found in halves.items()}
        for metric in metrics
    }


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _hm(base: float | None, novel: float | None) -> float | None:
    return None if base is None or novel is None else harmonic_mean(base, novel)


def _mean(values: pl.Series) -> float:
    return float(values.mean() or 0.0)  # type: ignore[arg-type]


def letter_choice(predictions: pl.DataFrame) -> dict[str, Any]:
    """How well the letter is chosen where a question was asked and the truth was among the options.

    `chance` is the mean of 1 / number of options: what blind guessing would reach on the same questions.
    """
    asked = predictions.filter(pl.col("choice_text").is_not_null())
    offered = asked.filter(
        pl.col("options").list.eval(pl.element().struct.field("class_id")).list.contains(pl.col("class_id"))
    )
    right = (offered["two_step"] == offered["class_id"]).fill_null(False)
    chance = (1 / offered["options"].list.len()).mean()
    return {
        "accuracy": round(_mean(right.cast(pl.Float64)), 4),
        "chance": round(float(chance or 0.0), 4),  # type: ignore[arg-type]
        "n": offered.height,
        "asked": asked.height,
    }


def draws_per_image(predictions: pl.DataFrame) -> int:
    """K: the number of draws that every image has; 0 without images. ValueError where they differ."""
    counts = predictions["draws"].list.len().unique().to_list() or [0]
    if len(counts) > 1:
        raise ValueError(f"images with {min(counts)} and with {max(counts)} draws")
    return int(counts[0])


def status_counts(predictions: pl.DataFrame) -> dict[str, int]:
    """How many second steps ended in which status."""
    return dict(sorted(predictions["status"].value_counts().iter_rows()))
