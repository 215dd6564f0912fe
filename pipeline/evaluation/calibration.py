"""What confidences are worth: calibration, abstention at a threshold, and risk by coverage."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl

from pipeline.evaluation.confidence import BINS, Floats, calibration_error, risk_coverage, threshold_for
from pipeline.evaluation.groups import DIGITS, round_floats
from pipeline.evaluation.scoring import WayConfidence

COVERAGES = np.linspace(0.05, 1, 20)
CONFIDENCE_DIGITS = 3
"""Decimals of mean confidences: probabilities differ between processors in their last digits."""


def confidence_summary(one: WayConfidence, precision: float) -> dict[str, Any]:
    """Calibration and abstention of one model and way to answer; empty without validation images.

    threshold: the lowest confidence at and above which the share `precision` of the validation answers is right, null
    if there is none. By subset of the test images: n, ece, ece_calibrated (after the isotonic fit on validation
    images), coverage (the share of images at or above the threshold) and precision (the share of these that is right).
    """
    if one.validation is None or one.fit is None:
        return {}
    threshold, fit = threshold_for(precision, *one.validation), one.fit(one.confidence)
    never = np.zeros(len(one.confidence), np.bool_)
    is_sure = never if threshold is None else one.confidence >= threshold
    summary: dict[str, Any] = {"threshold": None if threshold is None else round(threshold, 4)}
    for subset, mask in one.subsets.items():
        sure = mask & is_sure
        summary[subset] = {
            "n": int(mask.sum()),
            "ece": round(calibration_error(one.confidence[mask], one.right[mask]), 4),
            "ece_calibrated": round(calibration_error(fit[mask], one.right[mask]), 4),
            "coverage": round(float(sure.sum() / mask.sum()), 4),
            "precision": round(float(one.right[sure].mean()), 4) if sure.any() else None,
        }
    return summary


def calibration(confidences: Iterable[WayConfidence]) -> pl.DataFrame:
    """One row for every tenth of the images, the least confident first: mean confidence and accuracy.

    Two columns, confidence_ and accuracy_, by way to answer, model and subset; with `_fitted` at the end after the
    isotonic fit on validation images. Tenths of the images, not of the confidence, so that each has as many images.
    """
    columns: dict[str, Floats] = {}
    for one in confidences:
        kinds = {"": one.confidence}
        if one.fit is not None:
            kinds["_fitted"] = one.fit(one.confidence)
        for kind, values in kinds.items():
            for subset, mask in one.subsets.items():
                tenths = np.array_split(np.argsort(values[mask], kind="stable"), BINS)
                name = f"{one.way}_{one.model}_{subset}{kind}"
                columns[f"confidence_{name}"] = _means(values[mask], tenths, CONFIDENCE_DIGITS)
                columns[f"accuracy_{name}"] = _means(one.right[mask], tenths, DIGITS)
    table = pl.DataFrame({"tenth": np.arange(1, BINS + 1), **columns})
    return table.with_columns(pl.selectors.float().fill_nan(None))


def _means(values: Floats, groups: list[Any], digits: int) -> Floats:
    means = pl.Series([values[group].mean() if len(group) else np.nan for group in groups], dtype=pl.Float64)
    return means.round(digits).to_numpy()


def risks(confidences: Iterable[WayConfidence]) -> pl.DataFrame:
    """One row for every twentieth of coverage: the share of wrong answers among that share of images, surest first.

    By way to answer, model and subset. Equally confident answers contribute their mean.
    """
    columns: dict[str, Floats] = {"coverage": COVERAGES}
    for one in confidences:
        for subset, mask in one.subsets.items():
            coverage, risk = risk_coverage(one.confidence[mask], one.right[mask])
            wrong = np.interp(COVERAGES, np.append(0, coverage), np.append(0, risk * coverage))
            columns[f"{one.way}_{one.model}_{subset}"] = wrong / COVERAGES
    return round_floats(pl.DataFrame(columns))
