"""Uncertainty: intervals of shares, of harmonic means and of differences, and tests of differences.

Images of one class are correlated: 144 images of 12 classes carry more information than 12 images and less than 144
independent ones. So variances are taken between clusters, which are classes or groups of classes, and Student's t
replaces the normal distribution. bench/intervals.py measures how often the intervals contain the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

# SciPy is imported where it is used: it takes half a second, and `--help` of evaluate needs none of it.

LEVEL = 0.95
POWER = 0.8

PRIOR_DF = 2.0
"""Degrees of freedom with which the variance of independent images enters the variance between clusters of a share."""

PRIOR_DF_OF_DIFFERENCES = 1.0
"""The same for a difference, in which two models may each be better in some classes."""

PRIOR_CORRELATION = 0.02
"""Correlation of two images of a cluster that this variance assumes."""

HALF_AN_IMAGE = 0.5
"""Added to the right and to the wrong images, so that no share is 0 or 1 and no variance 0 (Haldane 1956)."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """Estimates of several numbers at once, arrays of shape (numbers,).

    Attributes:
        value: as reported.
        center: of the interval on the logit scale: `value` with HALF_AN_IMAGE more right and wrong.
        variance: of the estimate; NaN where a subset has one cluster, whose spread is unknown.
        df: degrees of freedom of the variance.
    """

    value: Floats
    center: Floats
    variance: Floats
    df: Floats


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


def smoothed_share(right: Any, images: int, clusters: int, blocks: int = 1) -> Any:
    """A share of `images` with HALF_AN_IMAGE, divided among all `blocks`, added to the right and to the wrong ones.

    The sample counts as √(images × clusters) independent images, between the two extremes that its images are
    independent and that those of a cluster are all the same.
    """
    size, added = sqrt(images * clusters), HALF_AN_IMAGE / blocks
    return (right * size + added) / (size + 2 * added)


def variance_of_mean(
    values: Floats, starts: NDArray[np.int64], scale: Floats, blocks: int = 1, prior_df: float = PRIOR_DF
) -> tuple[Floats, Floats]:
    """Variance of the means over all images, and its degrees of freedom, both (numbers,).

    The variance between clusters (the linearised one of a ratio, Cochran 1977, section 2.11) is pooled with that of
    nearly independent images: few clusters, or a few wrong images in them, say little about their own variance. Its
    degrees of freedom are fewer the closer a share is to 0 or 1; those of the other are `prior_df`, and fewer in each
    of several blocks, which together say more (bench/intervals.py).

    Args:
        values: (images, numbers), sorted by cluster.
        starts: (clusters,), the first row of each cluster.
        scale: (numbers,), the largest possible change of a value; 1 for scores between 0 and 1.
        blocks: how many such means an average is made of.
    """
    images, clusters = len(values), len(starts)
    if clusters < 2:
        unknown = np.full(values.shape[1], np.nan)
        return unknown, unknown
    mean, size, added = values.mean(axis=0), sqrt(images * clusters), HALF_AN_IMAGE / blocks
    sums = np.add.reduceat(values - mean, starts, axis=0)
    between = clusters / (clusters - 1) * (sums**2).sum(axis=0) / images**2
    spread = (values.var(axis=0) * size + added * scale**2) / (size + 2 * added)
    prior = spread / images * (1 + (images / clusters - 1) * PRIOR_CORRELATION)
    df = (clusters - 1) * np.minimum(1.0, 4 * spread / scale**2)
    prior_df /= sqrt(blocks)
    return (df * between + prior_df * prior) / (df + prior_df), df + prior_df


def sum_of_variances(variances: Sequence[Floats], dfs: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Variance of a sum of independent estimates, and its degrees of freedom (Satterthwaite 1946)."""
    total = np.sum(variances, axis=0)
    return total, total**2 / np.sum([v**2 / df for v, df in zip(variances, dfs, strict=True)], axis=0)


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


def harmonic_means(base: Floats, novel: Floats) -> Floats:
    """Harmonic mean, element by element; 0 where both are 0."""
    both = base + novel
    means: Any = np.divide(2 * base * novel, both, out=np.zeros_like(both), where=both > 0)
    return np.asarray(means, dtype=np.float64)
