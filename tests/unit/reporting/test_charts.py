"""The charts: axes, curves, marks, and what they say without colours."""

import re

import pytest

from pipeline.reporting.charts import Series, classes_chart, curves_chart, line_chart, running_mean, ticks
from pipeline.reporting.html_page import PAGE


@pytest.mark.parametrize(
    ("low", "high", "expected", "reason"),
    [
        (0, 1, [0, 0.5, 1.0], "a share, whole"),
        (0.43, 0.58, [0.4, 0.45, 0.5, 0.55, 0.6], "both ends covered"),
        (1, 200, [0, 50, 100, 150, 200], "steps"),
        (-0.3, 0.2, [-0.4, -0.2, 0, 0.2], "through zero"),
        (30, 30, [26, 28, 30, 32, 34], "all the same: still an axis"),
        (0, 0, [-0.5, 0, 0.5], "all zero"),
    ],
)
def test_ticks(low, high, expected, reason):
    assert ticks(low, high) == pytest.approx(expected), reason


def test_running_mean_is_over_full_windows_at_their_middle():
    assert running_mean([(1, 0.0), (2, 3.0), (3, 6.0), (5, 0.0)], 3) == [(2.0, 3.0), (10 / 3, 3.0)]


def test_lines_run_from_corner_to_corner():
    svg = line_chart("Reward", "share", [(1, 0.0), (2, 0.5), (3, 1.0)]).svg
    assert '<path class="raw" d="M42.0 166.0L175.0 96.0L308.0 26.0h0"/>' in svg


def test_chart_of_one_point_and_escaped_title():
    chart = line_chart("a < b", 'in "units"', [(5, 0.5)])
    assert "0.5 in step 5" in chart.caption
    assert 'aria-label="a &lt; b, in &#34;units&#34;' in chart.svg
    assert "nan" not in chart.svg


def test_curves_differ_by_more_than_colour():
    """Subsets by dashes, models by the shape and the fill of their marks."""
    one = Series("a, base", "of-base on-base", [(1, 0.2), (3, 0.6)], "square")
    chart = curves_chart("pass@k", "share", "draws", [one], shares=True)
    assert '<path class="curve of-base on-base" d="M42.0 138.0L308.0 82.0h0"/>' in chart.svg
    assert chart.svg.count('<rect class="mark of-base on-base"') == 2
    style = (PAGE / "style.css").read_text(encoding="utf-8")
    assert "stroke-dasharray" in style[style.index(".curve.on-novel") :].split("}")[0]
    assert "fill: var(--card)" in style[style.index(".mark.of-base") :].split("}")[0]


def test_marks_are_few_on_a_long_curve():
    chart = curves_chart("c", "u", "x", [Series("a", "l", [(n, n) for n in range(200)])])
    assert 10 <= chart.svg.count("<circle") <= 12


def test_calibration_has_its_diagonal():
    chart = curves_chart("c", "u", "x", [Series("a", "l", [(0.5, 0.5)])], diagonal=True, shares=True)
    assert '<path class="diagonal" d="M42.0 166.0L308.0 26.0h0"/>' in chart.svg


def test_classes_stand_worst_first_with_their_names():
    models = ["Before training", "After training"]
    chart = classes_chart("Base classes", [("b <i>", [0.5, 1.0]), ("a", [0.25, 0.0])], models)
    first = chart.svg.index("a: 25% before training, 0% after training")
    assert first < chart.svg.index("b &lt;i&gt;: 50% before training, 100% after training")
    assert chart.caption == "worst a 0%, median 100%, best 100%"


def test_a_class_that_did_not_change_shows_both_its_marks():
    chart = classes_chart("Base classes", [("a", [0.5, 0.5])], ["Before training", "After training"])
    radii = dict(re.findall(r'<circle class="dot (\w+)" cx="[\d.]+" cy="[\d.]+" r="([\d.]+)"', chart.svg))
    assert list(radii) == ["before", "after"] and float(radii["before"]) >= float(radii["after"]) + 1.5
