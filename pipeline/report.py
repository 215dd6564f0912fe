"""Show the numbers with their intervals, the curves, and every test image with its answers on one page, offline."""

import hashlib
import json
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline import params, rates, tables
from pipeline.cautions import cautions
from pipeline.charts import CURVES, Chart, Points, Series, classes_chart, curves_chart, line_chart, read_log
from pipeline.cli import run
from pipeline.files import write_text
from pipeline.gallery import Gallery
from pipeline.metrics import ARMS, HALVES
from pipeline.params import UserError

PREDICTIONS = [Path("data/predictions/base.parquet"), Path("data/predictions/trained.parquet")]
MODELS = {"base": "Base model", "trained": "Trained model"}
METRICS = ("pass@1", "pass@K", *ARMS, "letter_choice", "status")
ROWS = {
    "pass@1": "pass@1, a single draw",
    "one_step": "One-step",
    "vote": "Vote",
    "two_step": "Two-step",
    "gated": "Gated two-step",
    "turned": "Two-step, turned",
    "oracle": "truth offered",
    "pass@K": "truth drawn (pass@K)",
}
PARTS = {"base": "Base", "novel": "Novel", "hm": "HM"}
PAGE = Path(__file__).with_name("page")
CSVS = {
    "arms": ("model", "dataset", "metric", "part", "n", "accuracy", "low", "high"),
    "differences": ("first", "second", "dataset", "part", "n", "difference", "low", "high", "detectable"),
    "draws": ("draws",),
    "calibration": ("tenth",),
    "classes": ("dataset", "name", "half", "n", "two_step_base"),
    "letters": ("model", "letter", "chosen", "truth"),
}
"""Files of evaluate that the page reads, with columns that they must have."""


@dataclass(frozen=True)
class ReportParams:
    dataset: tuple[str, ...] = params.key("dataset")
    model: str = params.key("model")
    num_samples: int = params.key("num_samples", at_least=1)
    topk: int = params.key("topk", at_least=2)
    seed: int = params.key("seed", at_least=0, at_most=params.LARGEST_SEED)


@dataclass(frozen=True)
class Found:
    """What evaluate and train wrote: metrics.json, CSV files by name, and the curves of training."""

    scores: dict[str, Any]
    csv: dict[str, pl.DataFrame]
    log: dict[str, Points]

    @property
    def models(self) -> dict[str, str]:
        """Titles of the models whose answers are shown, in order."""
        return {model: title for model, title in MODELS.items() if model in self.scores}

    @property
    def parts(self) -> dict[str, str]:
        """Titles of the parts that there are images of."""
        two_step = self.scores["base"]["two_step"]
        return {part: title for part, title in PARTS.items() if two_step[part] is not None}

    def arms(self) -> list[dict[str, Any]]:
        """A group of rows for every model, rivals too: its title, and by metric the cells of the parts."""
        rows = self.csv["arms"].filter(dataset="all")
        groups = []
        for model in rows["model"].unique(maintain_order=True):
            own = rows.filter(model=model)
            cells = {(r["metric"], r["part"]): r for r in own.iter_rows(named=True)}
            metrics = [metric for metric in ROWS if (metric, next(iter(self.parts))) in cells]
            groups.append(
                {
                    "title": MODELS.get(model, model),
                    "counts": {half: cells[metrics[0], half]["n"] for half in HALVES if half in self.parts},
                    "rows": [
                        {"metric": metric, "title": ROWS[metric], "cells": [cells[metric, part] for part in self.parts]}
                        for metric in metrics
                    ],
                }
            )
        return groups

    def gains(self) -> list[dict[str, Any]]:
        """What training and the second step gave, by part with intervals; what was not compared is left out."""
        wanted = {
            "Training, two-step": ("base two_step", "trained two_step"),
            "Training, one-step": ("base one_step", "trained one_step"),
            "Second step, base": ("base one_step", "base two_step"),
            "Second step, trained": ("trained one_step", "trained two_step"),
        }
        rows = self.csv["differences"].filter(dataset="all")
        found = []
        for title, (first, second) in wanted.items():
            cells = {row["part"]: row for row in rows.filter(first=first, second=second).iter_rows(named=True)}
            if cells:
                found.append({"title": title, "cells": [cells[part] for part in self.parts]})
        return found

    def curves(self) -> list[Chart]:
        """pass@k, accuracy by number of draws and calibration, of both halves."""
        found = []
        draws = self.csv["draws"]
        for title, unit, name in (
            ("pass@k", "share with a right draw", "pass"),
            ("Truth offered", "share with the truth among the options", "oracle"),
            ("Vote", "share right", "vote"),
        ):
            series = self._series(draws, "draws", f"{name}_{{model}}_{{half}}", self.models)
            found.append(curves_chart(title, unit, "draws per image", series, shares=True))
        last = list(self.models)[-1]
        for arm, title, across in (
            ("one_step", "Calibration of one-step", "probability of the answer"),
            ("vote", "Calibration of the vote", "share of the votes"),
            ("two_step", "Calibration of two-step", "probability of the letter"),
        ):
            series = self._series(
                self.csv["calibration"],
                f"confidence_{arm}_{{model}}_{{half}}",
                f"accuracy_{arm}_{{model}}_{{half}}",
                {last: self.models[last]},
            )
            if series:
                found.append(curves_chart(title, "share right", across, series, diagonal=True, shares=True))
        return found

    def _series(self, table: pl.DataFrame, x: str, y: str, models: dict[str, str]) -> list[Series]:
        found = []
        for model, title in models.items():
            for half in HALVES:
                names = [name.format(model=model, half=half) for name in (x, y)]
                if set(names) <= set(table.columns):
                    points = table.select(pl.col(names).cast(pl.Float64)).drop_nulls().rows()
                    if points:
                        found.append(Series(f"{title}, {half}", f"of-{model} on-{half}", [(a, b) for a, b in points]))
        return found

    def classes(self) -> list[Chart]:
        """Accuracy of every class, a chart for each half."""
        table, last = self.csv["classes"], list(self.models)[-1]
        found = []
        for half in HALVES:
            own = table.filter(half=half)
            dots = list(zip(own["name"], own["two_step_base"], own[f"two_step_{last}"], strict=True))
            if dots:
                found.append(classes_chart(f"{half.capitalize()} classes", dots))
        return found


def page(
    asked: ReportParams,
    found: Found,
    predictions: pl.DataFrame,
    classes: pl.DataFrame,
    images: pl.DataFrame,
    fingerprint: str,
) -> str:
    """The page as HTML. Raises UserError where the tables are not of one run."""
    gallery = Gallery(predictions, classes, images, found.models)
    script = (PAGE / "gallery.js").read_text()
    # Autoescape, since class names and all that a model wrote are untrusted. Charts and JSON escape their own texts.
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        asked=asked,
        scores=found.scores,
        parts=found.parts,
        models=found.models,
        arms=found.arms(),
        gains=found.gains(),
        cautions=cautions(found.scores, found.csv["differences"], found.csv["letters"], predictions),
        training=[line_chart(*CURVES[name], points) for name, points in found.log.items()],
        curves=found.curves(),
        classes=found.classes(),
        by_class=found.csv["classes"].rows(named=True),
        gallery=gallery,
        style=(PAGE / "style.css").read_text(),
        script=script,
        script_hash=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        fingerprint=fingerprint,
    )


def read_scores(path: Path) -> dict[str, Any]:
    """What evaluate wrote, checked to have what the page shows. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such file, wanted the metrics; `dvc repro evaluate` writes it")
    try:
        scores: dict[str, Any] = json.loads(path.read_text())
        models = [model for model in MODELS if model == "base" or model in scores]
        lacking = [f"{m}.{metric}" for m in models for metric in METRICS if metric not in scores[m]]
    except (ValueError, TypeError, KeyError):
        lacking = ["metrics of the base model as JSON"]
    if lacking:
        raise UserError(f"{path}: found no {', '.join(lacking)}; `dvc repro evaluate` writes it anew")
    return scores


def read_csv(name: str, folder: Path) -> pl.DataFrame:
    """One of CSVS. Raises UserError where it is not there, or not what evaluate writes."""
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise UserError(f"{path}: no such file, wanted a table of evaluate; `dvc repro evaluate` writes it")
    try:
        table = pl.read_csv(path, infer_schema_length=None)
    except pl.exceptions.PolarsError:
        table = pl.DataFrame()
    if lacking := [column for column in CSVS[name] if column not in table.columns]:
        raise UserError(f"{path}: found no column {', '.join(lacking)}; `dvc repro evaluate` writes it anew")
    return table


def checks_alone(training: Path) -> str:
    """The steps at which validation images were answered: a plot of the whole log would take the others for 0."""
    columns = ["step", "validation_two_step"]
    return pl.read_csv(training, columns=columns, schema_overrides={columns[1]: pl.Float64}).drop_nulls().write_csv()


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
    asked, scores = params.load(ReportParams), read_scores(evaluated / "metrics.json")
    found = Found(scores, {name: read_csv(name, evaluated) for name in CSVS}, read_log(training))
    tested = pl.col("split") == "test"
    parts = {path: tables.read(tables.PREDICTIONS, path, where=tested) for path in predictions}
    rows, last = pl.concat(parts.values()), list(found.models)[-1]
    fingerprint = next((md5(path) for path, part in parts.items() if last in part["model"]), "")
    shown = tables.read(tables.IMAGES, images, where=tested)
    html = page(asked, found, rows, tables.read(tables.CLASSES, classes), shown, fingerprint)
    write_text(out, html)
    rates.note(images=rows["image_id"].n_unique())
    write_text(curves, training.read_text())
    write_text(checks, checks_alone(training))
    print(f"{out}: {rows['image_id'].n_unique():,} images, {len(html.encode()):,} bytes; open it in any browser")


def md5(path: Path) -> str:
    """The hash by which dvc.lock knows a file, and so git the commit of a run."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


if __name__ == "__main__":
    run(main, ReportParams)
