"""Show the numbers with their intervals, the curves, and every test image with its answers on one page, offline."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline.core import tables, timings
from pipeline.core.cli import run
from pipeline.core.files import write_text
from pipeline.core.params import load_params
from pipeline.core.words import counted
from pipeline.reporting.html_page import render_page
from pipeline.reporting.run_results import md5, read_results
from pipeline.reporting.run_settings import ReportParams
from pipeline.reporting.training_log import rounded_log, validation_points

PREDICTIONS = [Path("data/predictions/base.parquet"), Path("data/predictions/trained.parquet")]


def main(
    predictions: Annotated[list[Path], typer.Option(help="Table of predictions; repeatable.")] = PREDICTIONS,
    images: Annotated[Path, typer.Option(help="Table of images.")] = Path("data/images.parquet"),
    classes: Annotated[Path, typer.Option(help="Table of classes.")] = Path("data/classes.parquet"),
    details: Annotated[Path, typer.Option(help="JSON of all metrics.")] = Path("reports/details.json"),
    evaluated: Annotated[Path, typer.Option(help="Folder of evaluate's CSV files.")] = Path("reports/tables"),
    training: Annotated[Path, typer.Option(help="CSV of the training curves.")] = Path("data/training.csv"),
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("reports/index.html"),
    curves: Annotated[Path, typer.Option(help="Rounded CSV of the curves to write.")] = Path("reports/training.csv"),
    checks: Annotated[Path, typer.Option(help="CSV of the checks in training to write.")] = Path("reports/checks.csv"),
) -> None:
    """Show the numbers with their intervals, the curves, and every test image with its answers on one page, offline."""
    params, results = load_params(ReportParams), read_results(details, evaluated, training)
    is_test = pl.col("split") == "test"
    rows = pl.concat(tables.read(tables.PREDICTIONS, path, where=is_test) for path in predictions)
    pictures = tables.read(tables.IMAGES, images, where=is_test)
    html = render_page(params, results, rows, tables.read(tables.CLASSES, classes), pictures, md5(details))
    write_text(out, html)
    timings.record(images=rows["image_id"].n_unique())
    write_text(curves, rounded_log(training))
    write_text(checks, validation_points(training))
    print(f"{out}: {counted(rows['image_id'].n_unique(), 'image')}, {len(html.encode()):,} bytes; open it in a browser")


if __name__ == "__main__":
    run(main, ReportParams)
