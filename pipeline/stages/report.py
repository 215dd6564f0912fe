"""Show the numbers with their intervals, the curves, and every test image with its answers on one page, offline."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline.core import tables, timings
from pipeline.core.cli import run
from pipeline.core.files import write_text
from pipeline.core.params import load_params
from pipeline.reporting.charts import (
    read_log,
)
from pipeline.reporting.report_page import (
    CSVS,
    Found,
    ReportParams,
    checks_alone,
    md5,
    read_csv,
    read_scores,
    render_page,
)

PREDICTIONS = [Path("data/predictions/base.parquet"), Path("data/predictions/trained.parquet")]


def main(
    predictions: Annotated[list[Path], typer.Option(help="Table of predictions; repeatable.")] = PREDICTIONS,
    images: Annotated[Path, typer.Option(help="Table of images.")] = Path("data/images.parquet"),
    classes: Annotated[Path, typer.Option(help="Table of classes.")] = Path("data/classes.parquet"),
    evaluated: Annotated[Path, typer.Option(help="Folder of metrics.json and CSV files.")] = Path("reports"),
    training: Annotated[Path, typer.Option(help="CSV of the training curves.")] = Path("data/training.csv"),
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("reports/index.html"),
    curves: Annotated[Path, typer.Option(help="Copy of the curves to write.")] = Path("reports/training.csv"),
    checks: Annotated[Path, typer.Option(help="CSV of the checks in training to write.")] = Path("reports/checks.csv"),
) -> None:
    """Show the numbers with their intervals, the curves, and every test image with its answers on one page, offline."""
    asked, scores = load_params(ReportParams), read_scores(evaluated / "metrics.json")
    found = Found(scores, {name: read_csv(name, evaluated) for name in CSVS}, read_log(training))
    tested = pl.col("split") == "test"
    parts = {path: tables.read(tables.PREDICTIONS, path, where=tested) for path in predictions}
    rows = pl.concat(parts.values())
    fingerprint = next((md5(path) for path, part in parts.items() if found.last in part["model"]), "")
    shown = tables.read(tables.IMAGES, images, where=tested)
    html = render_page(asked, found, rows, tables.read(tables.CLASSES, classes), shown, fingerprint)
    write_text(out, html)
    timings.record(images=rows["image_id"].n_unique())
    write_text(curves, training.read_text())
    write_text(checks, checks_alone(training))
    print(f"{out}: {rows['image_id'].n_unique():,} images, {len(html.encode()):,} bytes; open it in any browser")


if __name__ == "__main__":
    run(main, ReportParams)
