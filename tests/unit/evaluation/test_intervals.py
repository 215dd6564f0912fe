"""Intervals and tests against published worked examples, against statsmodels' numbers, and on data of known truth."""

import numpy as np
import pytest

from pipeline.evaluation.intervals import (
    bootstrap_p,
    class_weights,
    detectable_difference,
    harmonic_means,
    holm,
    interval,
    mcnemar,
    mean_over_seeds,
    resampled_mean,
    wilson,
)


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


def test_detectable_difference_has_the_power_it_says():
    n, differing = 500, 0.3
    delta = detectable_difference(n, differing)
    rng = np.random.default_rng(0)
    only_first, only_second = (differing + delta) / 2, (differing - delta) / 2
    counts = rng.multinomial(n, [only_first, only_second, 1 - differing], 1500)
    power = np.mean([mcnemar(b, c) < 0.05 for b, c, _ in counts])
    assert 0.75 <= power <= 0.85
    assert detectable_difference(2, 1.0) == 1.0
    assert detectable_difference(100, 0.0) == 0.06 and mcnemar(0, 6) < 0.05 < mcnemar(0, 5)


def test_resampled_means_are_paired():
    right = np.array([[3.0, 3.0], [1.0, 1.0], [2.0, 2.0]])
    means = resampled_mean(right, np.array([4.0, 4.0, 4.0]), seed=1, replicates=50)
    assert means.shape == (50, 2)
    assert (means[:, 0] == means[:, 1]).all()
    assert (class_weights(3, 50, 1).sum(axis=1) == 3).all()


def test_p_value_of_resamples():
    many = 10**6  # with which Student's t is normal
    assert bootstrap_p(np.ones(999), many) == pytest.approx(2 / 1000, rel=1e-3)
    assert bootstrap_p(np.zeros(999), many) == 1.0
    assert bootstrap_p(np.array([-1.0] * 30 + [1.0] * 969), many) == pytest.approx(62 / 1000, rel=1e-3)
    assert bootstrap_p(np.ones(999), 5) > 0.02
    assert np.isnan(bootstrap_p(np.ones(999), 1))


def test_a_large_difference_passes_a_correction_for_many_comparisons():
    """Where no resample lies on the other side of 0, the tail is taken as normal."""
    rng, many = np.random.default_rng(0), 10**6
    assert bootstrap_p(rng.normal(5, 1, 4000), many) == pytest.approx(5.7e-7, rel=0.5)
    far, near = (bootstrap_p(rng.normal(mean, 1, 4000), 12) for mean in (8, 4))
    assert far < 0.05 / 40 < near < 0.05, "40 comparisons of 12 classes"
    resamples = rng.normal(0, 1, 4000)
    falling = [bootstrap_p(resamples + mean, many) for mean in np.arange(1.5, 6, 0.1)]
    assert falling == sorted(falling, reverse=True), "nor does it rise where the tail begins"


def test_one_class_has_no_interval():
    assert np.isnan(interval(np.ones(10), classes=1)).all()


def classes_of(rng, count, images, easy, hard):
    """Right answers of each class, whose own share is drawn from a beta distribution; its mean is the truth."""
    return rng.binomial(images, rng.beta(easy, hard, count)).astype(float)[:, None]


FEW = 12
MANY = [pytest.param(classes, marks=pytest.mark.slow) for classes in (25, 50, 100)]
IMAGES = {12: 12, 25: 6, 50: 6, 100: 10}


def sets_of(classes):
    """Simulated data sets: fewer of them where there are many classes, since the interval needs less correction."""
    return 2000 if classes < 50 else 1000


@pytest.mark.parametrize("classes", [FEW, *MANY])
def test_the_interval_of_a_harmonic_mean_covers_the_truth_at_its_level(classes):
    rng, sets, covered, images = np.random.default_rng(classes), sets_of(classes), 0, IMAGES[classes]
    truth = float(harmonic_means(np.array([0.7]), np.array([0.5]))[0])
    n = np.full(classes, float(images))
    for seed in range(sets):
        base, novel = classes_of(rng, classes, images, 4.2, 1.8), classes_of(rng, classes, images, 3, 3)
        subsets = (resampled_mean(right, n, 2 * seed + i, 400)[:, 0] for i, right in enumerate((base, novel)))
        low, high = interval(harmonic_means(*subsets), classes)
        covered += low <= truth <= high
    assert 0.93 <= covered / sets <= 0.97


@pytest.mark.parametrize("classes", [FEW, *MANY])
def test_the_interval_of_a_difference_covers_the_truth_at_its_level(classes):
    rng, sets, covered, rejected = np.random.default_rng(classes), sets_of(classes), 0, 0
    n = np.full(classes, 12.0)
    for seed in range(sets):
        share = rng.beta(3, 3, (classes, 1))  # what both models find hard in a class, plus what only one of them does
        first = rng.binomial(12, np.clip(share + rng.normal(0, 0.1, (classes, 1)), 0, 1)).astype(float)
        second = rng.binomial(12, np.clip(share + rng.normal(0, 0.1, (classes, 1)), 0, 1)).astype(float)
        means = resampled_mean(np.hstack([first, second]), n, seed, 400)
        differences = means[:, 1] - means[:, 0]
        low, high = interval(differences, classes)
        covered += low <= 0.0 <= high
        rejected += bootstrap_p(differences, classes) < 0.05
    assert 0.93 <= covered / sets <= 0.97
    assert 0.03 <= rejected / sets <= 0.07
