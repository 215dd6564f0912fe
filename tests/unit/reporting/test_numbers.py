"""Shares in percent and differences in points."""

import pytest

from pipeline.reporting.numbers import percent, points


@pytest.mark.parametrize(
    ("share", "digits", "expected"), [(0.8885, 1, "88.9"), (0.6639, 1, "66.4"), (0.8885, 2, "88.85"), (1.0, 1, "100.0")]
)
def test_halves_are_rounded_up(share, digits, expected):
    assert percent(share, digits) == expected


@pytest.mark.parametrize(("share", "expected"), [(0.2246, "+22.5"), (-0.3, "−30.0"), (0.0, "0.0"), (-0.0001, "0.0")])
def test_points_have_signs(share, expected):
    assert points(share) == expected
