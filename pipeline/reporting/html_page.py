"""The page: one HTML file that shows a run and loads nothing from the network."""

import hashlib
from base64 import b64encode
from pathlib import Path

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.evaluation.ways import WAYS
from pipeline.reporting import accuracy_tables, curves
from pipeline.reporting.caveats import caveats
from pipeline.reporting.charts import line_chart
from pipeline.reporting.gallery import Gallery
from pipeline.reporting.numbers import percent, points
from pipeline.reporting.run_results import RunResults
from pipeline.reporting.run_settings import ReportParams
from pipeline.reporting.training_log import CURVES

PAGE = Path(__file__).with_name("page")


def render_page(
    params: ReportParams,
    results: RunResults,
    predictions: pl.DataFrame,
    classes: pl.DataFrame,
    images: pl.DataFrame,
    fingerprint: str,
) -> str:
    """The page as HTML. Raises UserError where the tables are of different runs.

    Args:
        predictions: of the split "test", of all models shown.
        images: the table of images with their bytes, at least those of the predictions.
        fingerprint: MD5 of reports/details.json.
    """
    script = (PAGE / "gallery.js").read_text(encoding="utf-8")
    # Autoescape, since class names and all that a model wrote are untrusted. Charts and JSON escape their own texts.
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "points": points}
    return environment.get_template("report.html.j2").render(
        params=params,
        results=results,
        details=results.details,
        models=results.models,
        averages=results.averages,
        gain=results.gain(results.headline),
        ways=WAYS,
        tables=accuracy_tables,
        caveats=caveats(results, predictions, params.is_trained, params.partial),
        draws=curves.draws_charts(results),
        calibration=curves.calibration_charts(results),
        class_charts=curves.class_charts(results),
        class_rows=curves.class_rows(results),
        training=[line_chart(*CURVES[name], curve) for name, curve in results.log.items()],
        gallery=Gallery(predictions, classes, images, results.models),
        style=(PAGE / "style.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        fingerprint=fingerprint,
    )
