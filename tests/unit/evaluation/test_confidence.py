"""Confidence against hand-made numbers, scikit-like definitions, and data whose calibration is known."""

import numpy as np
import pytest
from support.scores import ROWS, frame

from pipeline.evaluation.confidence import (
    calibration_error,
    confidences,
    isotonic,
    reliability,
    risk_coverage,
    threshold_for,
    vote_threshold,
)

SURE = np.array([0.05, 0.05, 0.95, 0.95])
RIGHT = np.array([0.0, 1.0, 1.0, 1.0])


def test_calibration_error_is_the_mean_gap():
    bins = reliability(SURE, RIGHT)
    assert bins["bin"].to_list() == [0, 9] and bins["n"].to_list() == [2, 2]
    assert calibration_error(SURE, RIGHT) == pytest.approx((0.45 + 0.05) / 2)
    assert np.isnan(calibration_error(SURE[:0], RIGHT[:0]))
    assert calibration_error(np.ones(3), np.ones(3)) == 0.0


def test_a_calibrated_model_has_a_small_error_and_the_fit_corrects_an_overconfident_one():
    rng = np.random.default_rng(0)
    true = rng.random(20_000)
    right = (rng.random(20_000) < true).astype(float)
    assert calibration_error(true, right) < 0.02
    overconfident = np.sqrt(true)
    assert calibration_error(overconfident, right) > 0.1
    corrected = isotonic(overconfident[:10_000], right[:10_000])(overconfident[10_000:])
    assert calibration_error(corrected, right[10_000:]) < 0.03


def test_the_fit_never_falls():
    fit = isotonic(np.array([0.1, 0.2, 0.3, 0.3]), np.array([1.0, 0.0, 1.0, 1.0]))
    assert fit(np.array([0.0, 0.1, 0.2, 0.25, 0.3, 1.0])).tolist() == [0.5, 0.5, 0.5, 0.75, 1.0, 1.0]


def test_risk_coverage_counts_equally_sure_answers_together():
    coverage, risk = risk_coverage(SURE, RIGHT)
    assert coverage.tolist() == [0.5, 1.0] and risk.tolist() == [0.0, 0.25]


@pytest.mark.parametrize(("precision", "expected"), [(1.0, 0.95), (0.7, 0.05), (0.75, 0.05), (0.76, 0.95)])
def test_the_lowest_confidence_that_reaches_a_precision(precision, expected):
    assert threshold_for(precision, SURE, RIGHT) == expected


def test_no_confidence_may_reach_it():
    assert threshold_for(0.9, SURE, np.zeros(4)) is None


def test_the_vote_threshold_asks_as_few_questions_as_it_can():
    share = np.array([0.2, 0.4, 0.6, 1.0])
    vote, two_step = np.array([0.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0, 0.0])
    assert vote_threshold(share, vote, two_step) == 0.6
    assert vote_threshold(share, 1 - vote, np.ones(4)) > 1
    assert vote_threshold(share, np.ones(4), np.ones(4)) == 0.2


def test_confidences_by_way_to_answer():
    rows = frame(
        ROWS[0] | {"greedy_probability": 0.5, "choice_probability": 0.25},
        ROWS[1] | {"greedy_probability": 0.6, "choice_probability": 0.9},
        ROWS[3] | {"greedy_probability": 0.7},
    )
    assert confidences(rows, "one_step").tolist() == [0.5, 0.6, 0.7]
    assert confidences(rows, "vote").tolist() == [0.25, 0.25, 0.25]
    # The second has no readable letter; the third had one option and so no second question.
    assert confidences(rows, "two_step").tolist() == [0.25, 0.0, 0.25]


def test_an_engine_without_probabilities_has_no_confidence():
    assert confidences(frame(*ROWS), "one_step") is None
    assert confidences(frame(*ROWS), "two_step") is None
    assert confidences(frame(*ROWS).clear(), "vote") is None
    assert confidences(frame(*ROWS), "vote").tolist() == [0.25] * 4
    assert confidences(frame(*ROWS), "pass@1") is None, "a mean over draws is no answer"
