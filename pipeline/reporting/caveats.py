"""What a reader should know before trusting the numbers of a run: few images, failures, biases, confidence, seed."""

from typing import Any

import polars as pl

from pipeline.evaluation.metrics import SUBSETS
from pipeline.reporting.curves import SATURATED_AT, SATURATED_SHARE
from pipeline.reporting.run_results import RunResults

FEW_IMAGES = 100  # test images of a subset
FAILURES = 0.01  # share of second steps that end without a letter
LETTER_BIAS = 0.1  # total variation distance between the letters chosen and the letters of the truth
OFF_LIST = 0.05  # share of the draws that name no class
FLIPS = 0.25  # share of the questions whose answer depends on the order of the options

PARTIAL = (
    "A part of the data set was used (data.partial): the accuracies cannot be compared with those of the whole data "
    "set, such as published ones."
)
ONE_SEED = (
    "One training run with one seed: the intervals cover the choice of classes, not the variation between training "
    "runs. To train with several seeds: python -m pipeline suite."
)


def caveats(results: RunResults, predictions: pl.DataFrame, trained: bool = True, partial: bool = False) -> list[str]:
    """A sentence for each caveat; none where there is nothing to warn of.

    Args:
        predictions: of the split "test".
        trained: whether a training took place.
        partial: whether images of the data set were missing.
    """
    models, details, letters = results.models, results.details, results.tables["letters"]
    return [
        *([PARTIAL] if partial else []),
        *_few_images(details[results.subject]["two_step"]),
        *(_insignificant_gains(results) if trained else []),
        *(text for m, title in models.items() for text in _failures(title, details[m].get("status", {}))),
        *(text for m, title in models.items() for text in _letter_bias(title, letters.filter(model=m))),
        *(text for m, title in models.items() for text in _flips(title, details[m]["letter_choice"])),
        *(text for m, title in models.items() for text in _saturation(title, predictions.filter(model=m))),
        *(text for m, title in models.items() for text in _off_list(title, predictions.filter(model=m))),
        *([ONE_SEED] if trained and "trained" in models else []),
    ]


def _few_images(two_step: dict[str, Any]) -> list[str]:
    few = [
        f"{two_step[f'n_{subset}']} of {subset} classes"
        for subset in SUBSETS
        if 0 < two_step[f"n_{subset}"] < FEW_IMAGES
    ]
    return [f"Few test images: {' and '.join(few)}. Consider the intervals before the values."] if few else []


def _insignificant_gains(results: RunResults) -> list[str]:
    """A sentence for each subset on which the interval of the gain covers 0."""
    texts = []
    for subset in SUBSETS:
        row = results.gain(subset)
        if row is None or row["low"] is None or not row["low"] <= 0 <= row["high"]:
            continue
        detectable = f"; minimum detectable difference {100 * row['detectable']:.1f} points at {row['n']} images"
        texts.append(
            f"The change by training on {subset} classes is not significant: {100 * row['difference']:+.1f} points "
            f"(95 % interval {100 * row['low']:+.1f} to {100 * row['high']:+.1f}){detectable}."
        )
    return texts


def _failures(title: str, status: dict[str, int]) -> list[str]:
    failures, total = {name: count for name, count in status.items() if name != "ok"}, sum(status.values())
    if sum(failures.values()) <= FAILURES * total:
        return []
    kinds = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in failures.items())
    return [f"{title}: {sum(failures.values())} of {total} second steps gave no letter ({kinds})."]


def _letter_bias(title: str, letters: pl.DataFrame) -> list[str]:
    if not letters.height or not letters["truth"].sum() or not letters["chosen"].sum():
        return []
    shares = letters.select("letter", *(pl.col(name) / pl.col(name).sum() for name in ("chosen", "truth")))
    excess = shares.with_columns(excess=pl.col("chosen") - pl.col("truth"))
    if float(excess["excess"].abs().sum()) / 2 <= LETTER_BIAS:
        return []
    row = excess.sort("excess").row(-1, named=True)
    return [
        f"{title}: the model prefers the letter {row['letter']}: chosen in {row['chosen']:.0%} of the questions, "
        f"right in {row['truth']:.0%}."
    ]


def _flips(title: str, choice: dict[str, Any]) -> list[str]:
    if choice["flips"] <= FLIPS:
        return []
    return [f"{title}: in {choice['flips']:.0%} of the questions the answer depends on the order of the options."]


def _saturation(title: str, predictions: pl.DataFrame) -> list[str]:
    confidence = predictions["choice_probability"].drop_nulls()
    if not confidence.len() or (share := (confidence >= SATURATED_AT).sum() / confidence.len()) <= SATURATED_SHARE:
        return []
    return [
        f"{title}: in {share:.0%} of the questions the model gives its letter a probability of {SATURATED_AT:g} or "
        "more, right or wrong. Do not use this probability as a confidence."
    ]


def _off_list(title: str, predictions: pl.DataFrame) -> list[str]:
    draws = predictions["draws"].explode()
    share = draws.null_count() / max(1, len(draws))
    return [f"{title}: {share:.0%} of the draws name no class of the list."] if share > OFF_LIST else []
