"""Intervals and tests against published worked examples, against statsmodels' numbers, and on data of known truth."""

import numpy as np
import pytest
from support.benches import bench

from pipeline.evaluation.blocks import Block, Blocks
from pipeline.evaluation.estimates import (
    Estimate,
    correction,
    harmonic_means,
    joint_spread,
    spread,
    sum_of_variances,
    variance_between,
)
from pipeline.evaluation.intervals import (
    detectable_difference,
    difference_interval,
    holm,
    mcnemar,
    mean_over_seeds,
    p_value,
    share_interval,
    wilson,
)

COVERAGE = bench("intervals")


@pytest.mark.parametrize(
    ("right", "n", "expected"),
    # Newcombe 1998 (Statistics in Medicine 17, 857), table I, method 3.
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_wilson_of_the_published_examples(right, n, expected):
    assert wilson(right, n) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("right", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_no_share_has_no_interval(right, n):
    with pytest.raises(ValueError, match="no share"):
        wilson(right, n)


def test_mcnemar_of_published_examples():
    # Agresti 1990, approval of a prime minister: 150 and 86 changed their minds; exact binomial, two-sided.
    assert mcnemar(86, 150) == pytest.approx(3.716e-5, rel=1e-3)
    assert mcnemar(1, 5) == pytest.approx(0.21875)  # 2 · (1 + 6) / 2⁶
    assert mcnemar(0, 0) == 1.0


def test_mean_over_seeds_is_students_t():
    mean, low, high = mean_over_seeds([1.0, 2.0, 3.0])
    assert (mean, low, high) == pytest.approx((2.0, 2 - 2.4841, 2 + 2.4841), abs=1e-4)
    assert np.isnan(mean_over_seeds([1.0])[1:]).all()


def test_holm_of_a_worked_example():
    # Holm 1979's procedure on 0.01, 0.04, 0.03, 0.005: sorted, times 4, 3, 2, 1, never decreasing.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_missing_p_values_do_not_count():
    nan = float("nan")
    assert holm([nan, 0.02, 0.04]) == pytest.approx([nan, 0.04, 0.04], nan_ok=True)


def test_equal_seeds_have_no_interval():
    assert np.isnan(mean_over_seeds([3.5, 3.5, 3.5])[1:]).all()


def estimate(value: float, error: float, df: float) -> Estimate:
    return Estimate(*(np.array([number]) for number in (value, value, error**2, df)))


def test_students_t_of_a_worked_example():
    """Ten differences of Student 1908 (extra hours of sleep): mean 1.58, standard error 0.389, t = 4.06, p = 0.0028."""
    sleep = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]) / 10
    one = estimate(sleep.mean(), sleep.std(ddof=1) / np.sqrt(10), 9)
    assert p_value(one) == pytest.approx(0.0028, abs=5e-5)
    low, high = difference_interval(one)
    assert (low[0], high[0]) == pytest.approx((0.070, 0.246), abs=5e-4)
    assert p_value(estimate(0.0, 0.1, 9)) == 1.0


def test_detectable_difference_has_the_power_it_says():
    error, df = 0.05, 1e6
    delta = float(detectable_difference(estimate(0.0, error, df))[0])
    draws = np.random.default_rng(0).normal(delta, error, 4000)
    many = Estimate(draws, draws, np.full(4000, error**2), np.full(4000, df))
    assert 0.78 <= (p_value(many) < 0.05).mean() <= 0.82
    assert detectable_difference(estimate(0.0, 1.0, 3)) == 1.0, "no difference is larger"


def test_variance_of_many_clusters_is_that_of_their_means():
    rng = np.random.default_rng(0)
    values = rng.random((400, 10, 1)) + rng.normal(0, 0.3, (400, 1, 1))
    means = values.mean(axis=1)
    variance, df = variance_between(spread(values.reshape(4000, 1), np.arange(400) * 10, np.ones(1)))
    assert variance[0] == pytest.approx(means.var(ddof=1) / 400, rel=0.02)
    assert 200 < df[0] < 402


def test_correction_of_unequal_clusters():
    """Against the quadratic form itself: of a mean weighted by size, with equal variances of the clusters."""
    assert correction(np.full(5, 7.0)) == pytest.approx((5 / 4, 4))
    sizes = np.array([25.0, 10, 5, 3, 2, 1])
    share = sizes / sizes.sum()
    centre = np.eye(6) - np.outer(np.ones(6), share)
    form = centre.T @ np.diag(share**2) @ centre
    expected = (share**2).sum() / np.trace(form), np.trace(form) ** 2 / np.trace(form @ form)
    assert correction(sizes) == pytest.approx(expected)
    assert correction(sizes)[1] < 3, "mostly the difference of the largest from the others"


def test_clusters_in_both_subsets_are_one():
    """The same deviations twice: their sum has four times the variance of one block, and no more clusters."""
    one = spread(np.random.default_rng(0).random((40, 1)), np.arange(4) * 10, np.ones(1), 2)
    joint = joint_spread([("a", "b", "c", "d"), ("a", "b", "c", "d")], [one, one])
    assert joint.deviations == pytest.approx(2 * one.deviations) and joint.sizes.tolist() == [20.0] * 4
    apart = joint_spread([("a", "b", "c", "d"), ("e", "f", "g", "h")], [one, one])
    assert len(apart.sizes) == 8
    assert variance_between(joint, 2)[0] > 1.5 * variance_between(apart, 2)[0]


def test_satterthwaites_degrees_of_freedom():
    one = np.array([2.0])
    variance, df = sum_of_variances([one, one], [np.array([5.0]), np.array([5.0])])
    assert (variance[0], df[0]) == (4.0, 10.0), "equal variances add their degrees of freedom"
    _, df = sum_of_variances([one, one * 1e-9], [np.array([5.0]), np.array([50.0])])
    assert df[0] == pytest.approx(5.0), "the larger variance decides"


def test_differences_are_paired():
    scores = np.random.default_rng(0).integers(0, 2, (60, 1)).astype(float)
    blocks = Blocks({("a", "base"): Block(np.hstack([scores, scores, 1 - scores]), np.arange(6) * 10)})
    same = blocks.differences(["a"], "base", np.array([0, 0]), np.array([1, 2]))
    assert same is not None and same.value[0] == 0 and same.variance[0] < same.variance[1] / 20


def test_one_class_has_no_interval():
    blocks = Blocks({("a", "base"): Block(np.ones((10, 1)), np.array([0]))})
    low, high = share_interval(blocks.estimate(["a"], "base"))
    assert np.isnan([low[0], high[0]]).all()
    assert blocks.estimate(["a"], "novel") is None and blocks.estimate(["a"], "hm") is None


def test_the_interval_contains_the_value_itself():
    for share in (0.0, 1.0):
        blocks = Blocks({("a", "base"): Block(np.full((48, 1), share), np.arange(4) * 12)})
        low, high = share_interval(blocks.estimate(["a"], "base"))
        assert low[0] <= share <= high[0] and 0.05 < high[0] - low[0] < 0.5, "neither nothing nor everything"


def test_the_slope_of_the_harmonic_mean():
    """The variance of a harmonic mean, against that of simulated sets."""
    rng, sets = np.random.default_rng(1), 4000
    shares = [COVERAGE.class_shares(rng, sets, 50, level, 6.0) for level in (0.7, 0.4)]
    base, novel = (COVERAGE.block(rng, own, 12) for own in shares)
    result = Blocks({("a", "base"): base, ("a", "novel"): novel}).estimate(["a"], "hm")
    assert result is not None
    assert np.sqrt(result.variance.mean()) == pytest.approx(result.value.std(), rel=0.05)
    assert result.value.mean() == pytest.approx(float(harmonic_means(np.array([0.7]), np.array([0.4]))[0]), abs=0.01)


# The complete table is bench/results/intervals.md. These are its edges: few classes, and shares near 0 and 1.
@pytest.mark.parametrize("classes", [4, 12, pytest.param(24, marks=pytest.mark.slow)])
@pytest.mark.parametrize("level", [0.2, 0.8, 0.95])
def test_intervals_cover_the_truth_at_their_level(classes, level):
    """One set, two subsets, five data sets, differences: 95 % within the error of 2,000 simulated sets (0.5)."""
    rng = np.random.default_rng([classes, round(100 * level)])
    shares = dict(COVERAGE.coverages(rng, 2000, classes, 12, level, 6.0))
    # Few images of few classes, and models that hardly differ: seldom called different, whatever the interval.
    highest = {kind: 1.0 for kind in shares if "difference" in kind and (classes < 24 or "unequal" in kind)}
    assert {kind: share for kind, share in shares.items() if not 0.93 <= share <= highest.get(kind, 0.985)} == {}
