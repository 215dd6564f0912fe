"""The charts of a run: which curves they have, and when there is none to draw."""

from support.report_runs import Elements, evaluate, read_run, report_page, results_of, row

from pipeline.reporting.curves import calibration_charts, class_rows, draws_charts
from pipeline.reporting.numbers import percent


def test_the_table_of_classes_is_sorted_as_the_charts(run_folder):
    rows = class_rows(read_run())
    assert [row["subset"] for row in rows] == ["base"] * 2 + ["novel"] * 2
    for subset in ("base", "novel"):
        own = [(row["shares"][1], row["shares"][0], row["name"]) for row in rows if row["subset"] == subset]
        assert own == sorted(own)


def test_calibration_shows_the_fit_and_the_error_before_and_after():
    results = results_of(
        [
            row(model, n, n % 3 == 0, choice_probability=0.3 + n % 7 / 10, **extra)
            for model in ("base", "trained")
            for n in range(40)
            for extra in ({}, {"split": "val", "image_id": f"b{n:016x}"})
        ]
    )
    group = calibration_charts(results)
    chart = next(one for one in group.charts if one.title == "Calibration of two-step")
    assert "curve of-fitted on-novel" in chart.svg and "curve of-trained on-novel" in chart.svg
    assert "Fitted on validation images, base classes" in [name for name, _ in group.legend]
    confidence = results.details["trained"]["confidence"]["two_step"]["base"]
    before, after = (percent(confidence[name]) for name in ("ece", "ece_calibrated"))
    assert chart.caption.startswith(f"Calibration error in points: {before} on base classes, {after} when fitted")


def test_saturated_confidence_is_a_sentence_and_no_curve(run_folder):
    evaluate([row(model, n, n % 3 == 0, choice_probability=0.999) for model in ("base", "trained") for n in range(40)])
    chart = next(one for one in calibration_charts(read_run()).charts if one.title == "Calibration of two-step")
    assert chart.svg == "" and "nearly every confidence is 0.99 or more" in chart.caption
    assert "nearly every confidence is 0.99 or more, right or wrong" in Elements(report_page()).words


def test_models_differ_by_the_shape_of_their_marks(run_folder):
    group = draws_charts(read_run())
    shapes = {"Before training": "<rect", "After training": "<circle"}
    assert [name for name, _ in group.legend] == [
        f"{m}, {subset} classes" for m in shapes for subset in ("base", "novel")
    ]
    for name, sample in group.legend:
        assert {shape for shape in shapes.values() if shape in sample} == {shapes[name.split(",")[0]]}
    assert group.charts[0].svg.count("<rect") == group.charts[0].svg.count("<circle") == 2 * 5
