"""Uncertainty: intervals of shares, of harmonic means and of differences, and tests of differences.

Intervals of estimates are Student's t, with the degrees of freedom of variances between clusters (estimates.py).
bench/intervals.py measures how often they contain the truth.
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np

from pipeline.evaluation.estimates import Estimate, Floats

# SciPy is imported where it is used: it takes half a second, and `--help` of evaluate needs none of it.

LEVEL = 0.95
POWER = 0.8


def wilson(right: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Interval of a share, `right` of `n` independent images (Wilson 1927). ValueError where n is 0."""
    if not 0 <= right <= n or n == 0:
        raise ValueError(f"{right} right of {n} is no share")
    from scipy import stats

    bounds = stats.binomtest(right, n).proportion_ci(level, method="wilson")
    return float(bounds.low), float(bounds.high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact p-value that two models differ, given the images that only one of them has right (McNemar 1947).

    1 where there are none.
    """
    from scipy import stats

    either = only_first + only_second
    return float(stats.binomtest(only_first, either).pvalue) if either else 1.0


def mean_over_seeds(values: Sequence[float], level: float = LEVEL) -> tuple[float, float, float]:
    """Mean and its interval by Student's t; the interval is NaN without spread: one value, or all of them equal."""
    from scipy import special

    mean = float(np.mean(values))
    if len(values) < 2 or min(values) == max(values):
        return mean, float("nan"), float("nan")
    error = np.std(values, ddof=1) / sqrt(len(values))
    width = float(special.stdtrit(len(values) - 1, (1 + level) / 2) * error)
    return mean, mean - width, mean + width


def share_interval(estimate: Estimate, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Interval of numbers between 0 and 1, by Student's t on the logit scale; it contains the value itself."""
    from scipy import special

    slope = estimate.center * (1 - estimate.center)
    width = special.stdtrit(estimate.df, (1 + level) / 2) * np.sqrt(estimate.variance) / slope
    middle = special.logit(estimate.center)
    low, high = special.expit(middle - width), special.expit(middle + width)
    return np.minimum(low, estimate.value), np.maximum(high, estimate.value)


def difference_interval(estimate: Estimate, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Interval of differences between −1 and 1, by Student's t."""
    from scipy import special

    width = special.stdtrit(estimate.df, (1 + level) / 2) * np.sqrt(estimate.variance)
    return np.maximum(estimate.value - width, -1.0), np.minimum(estimate.value + width, 1.0)


def p_value(estimate: Estimate) -> Floats:
    """Two-sided p-values that differences are 0, by Student's t; below 0.05 where their 95 % interval excludes 0."""
    from scipy import special

    return np.asarray(2 * special.stdtr(estimate.df, -np.abs(estimate.value) / np.sqrt(estimate.variance)))


def detectable_difference(estimate: Estimate, level: float = LEVEL, power: float = POWER) -> Floats:
    """Minimum difference that the test of `p_value` would find significant with this power, at the same variance."""
    from scipy import special

    quantiles = special.stdtrit(estimate.df, (1 + level) / 2) + special.stdtrit(estimate.df, power)
    return np.asarray(np.minimum(quantiles * np.sqrt(estimate.variance), 1.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979), in the same order; NaN stays NaN and does not count."""
    values = np.asarray(p_values, dtype=float)
    corrected = np.full(len(values), np.nan)
    order = np.argsort(values, kind="stable")[: int((~np.isnan(values)).sum())]  # NaN is sorted last
    scaled = values[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(order) else scaled
    return [float(p) for p in corrected]
