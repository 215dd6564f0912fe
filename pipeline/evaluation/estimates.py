"""Estimates of means over clusters of images: their values, variances and degrees of freedom.

Images of one class are correlated: 144 images of 12 classes carry more information than 12 images and less than 144
independent ones. So variances are taken between clusters, which are classes or groups of classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def smoothed_share(right: Any, images: int, clusters: int, blocks: int = 1) -> Any:
    """A share of `images` with HALF_AN_IMAGE, divided among all `blocks`, added to the right and to the wrong ones.

    The sample counts as √(images × clusters) independent images, between the two extremes that its images are
    independent and that those of a cluster are all the same.
    """
    size, added = sqrt(images * clusters), HALF_AN_IMAGE / blocks
    return (right * size + added) / (size + 2 * added)


@dataclass(frozen=True)
class Spread:
    """What one block of images says of the variance of an estimate; arrays of shape (numbers,) or (clusters, numbers).

    Attributes:
        deviations: by cluster, what it adds to the deviation of the estimate from its mean.
        sizes: (clusters,), images.
        independent: the variance of the estimate if images were nearly independent.
        information: 0 to 1, how much the block says of its own variance: less the closer a share is to 0 or 1.
    """

    deviations: Floats
    sizes: Floats
    independent: Floats
    information: Floats


def spread(values: Floats, starts: NDArray[np.int64], scale: Floats, blocks: int = 1) -> Spread:
    """The spread of the means over all images of a block.

    Args:
        values: (images, numbers), sorted by cluster.
        starts: (clusters,), the first row of each cluster.
        scale: (numbers,), the largest possible change of a value; 1 for scores between 0 and 1.
        blocks: how many such means an average is made of.
    """
    images, clusters = len(values), len(starts)
    size, added = sqrt(images * clusters), HALF_AN_IMAGE / blocks
    variance = (values.var(axis=0) * size + added * scale**2) / (size + 2 * added)
    return Spread(
        np.add.reduceat(values - values.mean(axis=0), starts, axis=0) / images,
        np.diff(np.append(starts, images)).astype(float),
        variance / images * (1 + (images / clusters - 1) * PRIOR_CORRELATION),
        np.minimum(1.0, 4 * variance / scale**2),
    )


def correction(sizes: Floats) -> tuple[float, float]:
    """By what the sum of squared deviations of clusters becomes a variance, and its degrees of freedom.

    n / (n − 1) and n − 1 for n clusters of one size. Of different sizes the mean is mostly that of the large ones, and
    the squares are a quadratic form whose degrees of freedom are Satterthwaite's, with equal variances of the clusters'
    own means.
    """
    share = sizes / sizes.sum()
    square = share**2
    total, cubes = square.sum(), (square * share).sum()
    trace = (square * (1 - 2 * share + total)).sum()
    fourth = (square**2).sum()
    of_square = (
        fourth
        + 2 * (total * fourth - 2 * (square**2 * share).sum())
        + 2 * fourth * total
        + 2 * cubes**2
        - 4 * total**2 * cubes
        + total**4
    )
    return float(total / trace), float(trace**2 / of_square)


def variance_between(spread: Spread, blocks: int = 1, prior_df: float = PRIOR_DF) -> tuple[Floats, Floats]:
    """Variance of an estimate and its degrees of freedom, both (numbers,); NaN with fewer than two clusters.

    The variance between clusters (the linearised one of a ratio, Cochran 1977, section 2.11) is pooled with that of
    nearly independent images: few clusters, or a few wrong images in them, say little about their own variance. The
    latter has `prior_df` degrees of freedom, and fewer in each of several blocks, which together say more
    (bench/intervals.py).
    """
    if len(spread.sizes) < 2:
        unknown = np.full_like(spread.independent, np.nan)
        return unknown, unknown
    factor, df = correction(spread.sizes)
    between, own_df = factor * (spread.deviations**2).sum(axis=0), df * spread.information
    prior_df /= sqrt(blocks)
    return (own_df * between + prior_df * spread.independent) / (own_df + prior_df), own_df + prior_df


def shared(names: Sequence[Sequence[str]]) -> bool:
    """Whether any name is in several lists."""
    return len(set().union(*names)) < sum(map(len, names))


def joint_spread(names: Sequence[Sequence[str]], spreads: Sequence[Spread]) -> Spread:
    """The spread of a sum of blocks that have clusters in common; `names` of each block's clusters."""
    rows = {name: row for row, name in enumerate(dict.fromkeys(name for own in names for name in own))}
    deviations = np.zeros((len(rows), spreads[0].deviations.shape[1]))
    sizes, independent = np.zeros(len(rows)), np.sum([one.independent for one in spreads], axis=0)
    for own, one in zip(names, spreads, strict=True):
        places = [rows[name] for name in own]
        deviations[places] += one.deviations
        sizes[places] += one.sizes
    information = np.sum([one.independent * one.information for one in spreads], axis=0) / independent
    return Spread(deviations, sizes, independent, information)


def sum_of_variances(variances: Sequence[Floats], dfs: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Variance of a sum of independent estimates, and its degrees of freedom (Satterthwaite 1946)."""
    total = np.sum(variances, axis=0)
    return total, total**2 / np.sum([v**2 / df for v, df in zip(variances, dfs, strict=True)], axis=0)


def harmonic_means(base: Floats, novel: Floats) -> Floats:
    """Harmonic mean, element by element; 0 where both are 0."""
    both = base + novel
    means: Any = np.divide(2 * base * novel, both, out=np.zeros_like(both), where=both > 0)
    return np.asarray(means, dtype=np.float64)
