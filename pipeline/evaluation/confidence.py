"""How sure the answers are and how far that can be trusted; all thresholds are chosen on validation images."""

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.evaluation.metrics import VOTE_SHARE

Floats = NDArray[np.float64]

BINS = 10
CONFIDENCES = {
    "one_step": pl.col("greedy_probability"),
    "vote": VOTE_SHARE,
    # A single option is the answer without a question: it is as sure as its votes.
    "two_step": pl.when(pl.col("choice_text").is_null()).then(VOTE_SHARE).otherwise("choice_probability"),
}
"""How sure each way to answer is of its answer: the model's own probability of it, or the share of the votes."""


def confidences(predictions: pl.DataFrame, arm: str) -> Floats | None:
    """One confidence for every row, 0 where nothing was answered; None where the engine told of no probability."""
    asked = predictions.select(CONFIDENCES[arm].alias("sure"), answered=pl.col(arm).is_not_null())
    known = asked.filter("answered")["sure"]
    if known.len() == 0 or known.null_count():
        return None
    return asked.select(pl.when("answered").then("sure").otherwise(0.0)).to_series().to_numpy().astype(np.float64)


def _bins(confidence: Floats) -> NDArray[np.int64]:
    return np.clip((confidence * BINS).astype(np.int64), 0, BINS - 1)


def reliability(confidence: Floats, right: Floats) -> pl.DataFrame:
    """One row for every bin of confidence that has images: bin (from 0), n, mean confidence, accuracy."""
    rows = pl.DataFrame({"bin": _bins(confidence), "confidence": confidence, "right": right})
    return rows.group_by("bin").agg(n=pl.len(), confidence=pl.mean("confidence"), accuracy=pl.mean("right")).sort("bin")


def calibration_error(confidence: Floats, right: Floats) -> float:
    """Expected calibration error of Naeini et al. 2015, ten bins of equal width; NaN without images."""
    bins = reliability(confidence, right)
    if not bins.height:
        return float("nan")
    gaps = (bins["accuracy"] - bins["confidence"]).abs() * bins["n"]
    return float(gaps.sum()) / len(confidence)


def isotonic(confidence: Floats, right: Floats) -> Callable[[Floats], Floats]:
    """The rising steps from confidence to accuracy that fit best (Zadrozny and Elkan 2002), straight between them."""
    from scipy.optimize import isotonic_regression

    places, where, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    shares = np.bincount(where, weights=right) / counts
    fitted = isotonic_regression(shares, weights=counts).x
    return lambda asked: np.interp(asked, places, fitted)


def risk_coverage(confidence: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Share of images answered, the surest first, and the share of those that is wrong; equally sure ones together."""
    order = np.argsort(-confidence, kind="stable")
    wrong, ends = np.cumsum(1 - right[order]), np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))
    answered = ends + 1
    return answered / len(confidence), wrong[ends] / answered


def threshold_for(precision: float, confidence: Floats, right: Floats) -> float | None:
    """Lowest confidence from which on the answers are right in this share of the images; None where there is none."""
    places = np.unique(confidence[confidence > 0])
    sums = np.array([(right[confidence >= place].mean()) for place in places])
    enough = np.flatnonzero(sums >= precision)
    return float(places[enough[0]]) if len(enough) else None


def gate(vote_share: Floats, vote: Floats, two_step: Floats) -> float:
    """Vote share from which on the vote is taken without a second question: where most answers are right.

    The lowest of equally good ones, since it asks least. Above 1 where the question is always better.

    Args:
        vote_share, vote, two_step: share of the votes, and whether each answer is right, for every image.
    """
    places = np.append(np.unique(vote_share), 1.1)
    right = [np.where(vote_share >= place, vote, two_step).mean() for place in places]
    return float(places[int(np.argmax(right))])
