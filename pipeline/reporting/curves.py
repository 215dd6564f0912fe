"""The charts of the page: accuracy by number of draws, calibration, and every class."""

from dataclasses import dataclass
from typing import Any

import polars as pl
from markupsafe import Markup

from pipeline.evaluation.metrics import SUBSETS
from pipeline.evaluation.ways import answering
from pipeline.reporting.charts import Chart, Series, classes_chart, curves_chart, legend, worst_first
from pipeline.reporting.numbers import percent
from pipeline.reporting.run_results import RunResults
from pipeline.reporting.training_log import Points

SATURATED_AT, SATURATED_SHARE = 0.99, 0.9
"""Confidences of at least the first are saturated; a model is where more than the second of its answers are."""

SHAPES = {"base": "square", "trained": "circle"}
"""Shape of the marks, by model."""


@dataclass(frozen=True)
class ChartGroup:
    """Charts of the same curves, and the legend that they share."""

    legend: list[tuple[str, Markup]]
    charts: list[Chart]


def draws_charts(results: RunResults) -> ChartGroup:
    """pass@k, options with the truth, and the vote, by number of draws, on both subsets."""
    table, charts, series = results.tables["draws"], [], list[Series]()
    for title, unit, name in (
        ("pass@k", "share with a right draw", "pass"),
        ("Truth offered", "share with the truth among the options", "oracle"),
        ("Vote", "share right", "vote"),
    ):
        series = [
            one
            for model in results.models
            for subset in SUBSETS
            for one in _series(results, table, ("draws", f"{name}_{model}_{subset}"), model, subset)
        ]
        charts.append(curves_chart(title, unit, "draws per image", series, shares=True))
    return ChartGroup(legend(series), charts)


def calibration_charts(results: RunResults) -> ChartGroup:
    """Confidence against accuracy for the model that the run was for, before and after the fit on validation images."""
    model, charts, drawn = results.subject, [], list[Series]()
    for way in answering():
        if way.confidence is None:
            continue
        series = [
            one
            for suffix in ("", "_fitted")
            for subset in SUBSETS
            for one in _series(
                results,
                results.tables["calibration"],
                tuple(f"{name}_{way.name}_{model}_{subset}{suffix}" for name in ("confidence", "accuracy")),
                model,
                subset,
                fitted=bool(suffix),
            )
        ]
        if not series:
            continue
        title = f"Calibration of {way.label}"
        errors = calibration_errors(results.details[model].get("confidence", {}).get(way.name, {}))
        if is_saturated([one.points for one in series if "of-fitted" not in one.look]):
            text = f"No curve: nearly every confidence is {SATURATED_AT:g} or more, right or wrong. {errors}"
            charts.append(Chart(title, text.strip(), Markup("")))
        else:
            drawn += series
            charts.append(curves_chart(title, "share right", "confidence", series, errors, diagonal=True, shares=True))
    return ChartGroup(legend(drawn), charts)


def _series(
    results: RunResults, table: pl.DataFrame, columns: tuple[str, ...], model: str, subset: str, fitted: bool = False
) -> list[Series]:
    """The curve of two columns, or nothing where the table lacks them."""
    if not set(columns) <= set(table.columns):
        return []
    points = [(x, y) for x, y in table.select(pl.col(columns).cast(pl.Float64)).drop_nulls().rows()]
    title = "Fitted on validation images" if fitted else results.models[model]
    look, shape = ("fitted", "triangle") if fitted else (model, SHAPES[model])
    return [Series(f"{title}, {subset} classes", f"of-{look} on-{subset}", points, shape)] if points else []


def is_saturated(curves: list[Points]) -> bool:
    """Whether nearly all confidences of every curve are saturated, so that the points lie on one another."""
    return all(sum(x >= SATURATED_AT for x, _ in points) >= SATURATED_SHARE * len(points) for points in curves)


def calibration_errors(confidence: dict[str, Any]) -> str:
    """The expected calibration error on both subsets before and after the fit, as a sentence; "" without any."""
    errors = [
        f"{percent(confidence[subset]['ece'])} on {subset} classes"
        + (f", {percent(fit)} when fitted" if (fit := confidence[subset].get("ece_calibrated")) is not None else "")
        for subset in SUBSETS
        if subset in confidence
    ]
    return f"Calibration error in points: {'; '.join(errors)}." if errors else ""


def class_rows(results: RunResults) -> list[dict[str, Any]]:
    """A row for every class with each model's accuracy in `shares`: base classes first, and the worst first."""
    rows = [
        {**row, "shares": [row[f"two_step_{model}"] for model in results.models]}
        for row in results.tables["classes"].iter_rows(named=True)
    ]
    rows.sort(key=lambda row: (SUBSETS.index(row["subset"]), worst_first((row["name"], row["shares"]))))
    return rows


def class_charts(results: RunResults) -> list[Chart]:
    """Accuracy of every class, a chart for each subset of each data set."""
    charts, rows = [], class_rows(results)
    for dataset in dict.fromkeys(results.tables["classes"]["dataset"]):
        for subset in SUBSETS:
            own = [(r["name"], r["shares"]) for r in rows if (r["dataset"], r["subset"]) == (dataset, subset)]
            title = f"{dataset}, {subset} classes" if results.datasets else f"{subset.capitalize()} classes"
            if own:
                charts.append(classes_chart(title, own, list(results.models.values())))
    return charts
