"""How confident the answers are and how far that can be trusted; all thresholds are chosen on validation images."""

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.evaluation.ways import way

Floats = NDArray[np.float64]

BINS = 10


def confidences(predictions: pl.DataFrame, name: str) -> Floats | None:
    """(images,): the confidence of each answer by the way called `name`, 0 where nothing was answered.

    None where the engine reported no probability, nothing was answered, or the way has no confidence.
    """
    one = way(name)
    if one.confidence is None or one.answer is None:
        return None
    rows = predictions.select(confidence=one.confidence, has_answer=one.answer.is_not_null())
    values = rows.filter("has_answer")["confidence"]
    if values.len() == 0 or values.null_count():
        return None
    return (
        rows.select(pl.when("has_answer").then("confidence").otherwise(0.0)).to_series().to_numpy().astype(np.float64)
    )


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
    """The isotonic fit from confidence to accuracy (Zadrozny and Elkan 2002), linear between its steps."""
    from scipy.optimize import isotonic_regression

    places, inverse, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    shares = np.bincount(inverse, weights=right) / counts
    fit = isotonic_regression(shares, weights=counts).x
    return lambda values: np.interp(values, places, fit)


def risk_coverage(confidence: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Coverage, the share of images answered, most confident first, and risk, the share of these that is wrong.

    Images of equal confidence are added together.
    """
    order = np.argsort(-confidence, kind="stable")
    wrong, ends = np.cumsum(1 - right[order]), np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))
    counts = ends + 1
    return counts / len(confidence), wrong[ends] / counts


def threshold_for(precision: float, confidence: Floats, right: Floats) -> float | None:
    """Lowest threshold at and above which this share of the answers is right; None where no threshold reaches it."""
    places = np.unique(confidence[confidence > 0])
    shares = np.array([(right[confidence >= place].mean()) for place in places])
    enough = np.flatnonzero(shares >= precision)
    return float(places[enough[0]]) if len(enough) else None


def vote_threshold(vote_share: Floats, vote: Floats, two_step: Floats) -> float:
    """Vote share at and above which the vote is taken without a second question: where most answers are right.

    The lowest of equally good ones, since it asks the fewest questions. Above 1 where the question is always better.

    Args:
        vote_share, vote, two_step: share of the votes, and whether each answer is right, for every image.
    """
    places = np.append(np.unique(vote_share), 1.1)
    accuracies = [np.where(vote_share >= place, vote, two_step).mean() for place in places]
    return float(places[int(np.argmax(accuracies))])
