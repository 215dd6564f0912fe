"""Uncertainty: intervals of shares, of harmonic means and of differences, and tests of differences.

Images of one class are correlated: 144 images of 12 classes carry more information than 12 images and less than 144
independent ones, so numbers about several classes are resampled by class. Tests of differences compare the same images.
"""

from collections.abc import Sequence
from math import ceil, log2, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

# SciPy is imported where it is used: it takes half a second, and `--help` of evaluate needs none of it.

LEVEL = 0.95
REPLICATES = 4000
RESOLVED = 10  # resamples on the other side of 0 below which their number is too small to estimate the tail

Floats = NDArray[np.float64]


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
    """Mean and its interval by Student's t; the interval is NaN where there is only one value."""
    from scipy import special

    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    error = np.std(values, ddof=1) / sqrt(len(values))
    width = float(special.stdtrit(len(values) - 1, (1 + level) / 2) * error)
    return mean, mean - width, mean + width


def class_weights(classes: int, replicates: int, seed: int) -> Floats:
    """(replicates, classes): how often each class is in a resample of as many classes, drawn with replacement."""
    return np.random.default_rng(seed).multinomial(classes, np.full(classes, 1 / classes), replicates).astype(float)


def resampled_mean(right: Floats, images: Floats, seed: int, replicates: int = REPLICATES) -> Floats:
    """Means over resampled classes.

    Args:
        right: (classes, ways to answer), the sum of the scores of the class's images.
        images: (classes,), their number.

    Returns:
        (replicates, ways to answer). The same seed draws the same classes, so that differences are paired.
    """
    weights = class_weights(len(images), replicates, seed)
    return np.asarray((weights @ right) / (weights @ images)[:, None], dtype=np.float64)


def interval(replicates: Floats, classes: int, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval, widened for few classes as Student's t is for few values.

    The "expanded percentile" interval of Hesterberg 2015 (doi 10.1080/00031305.2015.1089789), section 5.3: resampling
    n classes underestimates the spread by √((n − 1) / n), and a normal quantile is too small for few n. NaN for fewer
    than two classes, whose spread is unknown.
    """
    from scipy import special

    if classes < 2:
        return float("nan"), float("nan")
    tail = special.ndtr(-sqrt(classes / (classes - 1)) * special.stdtrit(classes - 1, (1 + level) / 2))
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_p(differences: Floats, classes: int) -> float:
    """Two-sided p-value that a difference is 0: how often its resamples fall on the other side of 0, twice.

    Widened like `interval`, so that both agree. Where hardly any resample falls there, the tail is taken as normal: R
    resamples cannot resolve p-values below 2 / (R + 1), which would never pass a correction for many comparisons. NaN
    for fewer than two classes.
    """
    from scipy import special

    if classes < 2:
        return float("nan")
    side = min((differences <= 0).sum(), (differences >= 0).sum())
    normal = special.ndtri(min(0.5, (side + 1) / (len(differences) + 1)))
    if side < RESOLVED and (spread := float(differences.std())):
        normal = min(normal, -abs(float(differences.mean())) / spread)
    return float(2 * special.stdtr(classes - 1, normal * sqrt((classes - 1) / classes)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979), in the same order."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=float)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(p_values) else scaled
    return [float(p) for p in corrected]


def detectable_difference(n: int, discordant: float, level: float = LEVEL, power: float = 0.8) -> float:
    """Minimum detectable difference of two models on `n` shared images with this power, as a share.

    Args:
        discordant: share of images that only one of the two has right.

    From the normal approximation of McNemar's test (Connor 1987): (z_α √d + z_β √(d − δ²)) / √n = δ. At least the
    fewest images that the exact test needs if all of them differ in the same direction: 6 for a level of 0.95.
    """
    from scipy import special

    fewest = ceil(log2(2 / (1 - level))) / n
    z_level, z_power = special.ndtri((1 + level) / 2), special.ndtri(power)
    delta = 0.0
    for _ in range(100):  # a contraction: it converges within a few rounds
        delta = (z_level * sqrt(discordant) + z_power * sqrt(max(discordant - delta**2, 0.0))) / sqrt(n)
    return min(max(delta, fewest), 1.0)


def harmonic_means(base: Floats, novel: Floats) -> Floats:
    """Harmonic mean, element by element; 0 where both are 0."""
    both = base + novel
    means: Any = np.divide(2 * base * novel, both, out=np.zeros_like(both), where=both > 0)
    return np.asarray(means, dtype=np.float64)
