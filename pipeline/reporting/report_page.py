"""The page: what evaluate and train wrote, as one HTML file that needs no network."""

import hashlib
import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.core.params import LARGEST_SEED, UserError, key
from pipeline.evaluation.metrics import ARMS, SUBSETS
from pipeline.reporting.caveats import SATURATED, SURE, cautions, titles
from pipeline.reporting.charts import (
    CURVES,
    Chart,
    Points,
    Series,
    classes_chart,
    curves_chart,
    legend,
    line_chart,
    worst_first,
)
from pipeline.reporting.gallery import Gallery

METRICS = ("pass@1", "pass@K", *ARMS, "letter_choice", "status")
WAYS = {
    "pass@1": "A single draw (pass@1)",
    "one_step": "One-step",
    "vote": "Vote",
    "two_step": "Two-step",
    "cascade": "Gated two-step",
    "rotated": "Two-step, turned",
}
CEILINGS = {"oracle": "Among the options", "pass@K": "Among the draws (pass@K)"}
PARTS = {"base": "Base classes", "novel": "Novel classes", "hm": "Harmonic mean"}
MADE_BY = {
    "divek": "DiVE-k training",
    "virft": "ViRFT training",
    "sft": "Supervised fine-tuning",
    "none": "No training",
}
METHODS = {
    "divek": "DiVE-k: multiple choice, GRPO",
    "virft": "ViRFT: open question, GRPO",
    "sft": "SFT: image to class name",
    "none": "none",
}
OTHER_OPTIONS = {
    "random": "random base classes",
    "text_embedding": "similarly named base classes",
}
SHAPES = {"base": "square", "trained": "circle"}
PAGE = Path(__file__).with_name("page")
CSVS = {
    "arms": ("model", "dataset", "metric", "part", "n", "accuracy", "low", "high"),
    "differences": ("first", "second", "dataset", "part", "n", "difference", "low", "high", "detectable"),
    "draws": ("draws",),
    "calibration": ("tenth",),
    "classes": ("dataset", "name", "subset", "n", "two_step_base"),
    "letters": ("model", "letter", "chosen", "truth"),
}
"""Files of evaluate that the page reads, with columns that they must have."""

Cell = dict[str, Any]
"""A row of arms.csv or differences.csv."""


@dataclass(frozen=True)
class ReportParams:
    dataset: tuple[str, ...] = key("dataset")
    model: str = key("model")
    num_samples: int = key("num_samples", at_least=1)
    topk: int = key("topk", at_least=2)
    seed: int = key("seed", at_least=0, at_most=LARGEST_SEED)
    method: str = key("train.method", one_of=tuple(METHODS))
    strategy: str = key("options.strategy", one_of=("topk", *OTHER_OPTIONS))
    protocol: str = key("data.protocol")
    shots: int = key("data.shots", at_least=0)
    limit_per_class: int = key("data.limit_per_class", at_least=0)

    @property
    def training(self) -> str:
        """What the gain is a gain of."""
        if self.method == "divek" and self.strategy != "topk":
            return f"Training on options of {OTHER_OPTIONS[self.strategy]}"
        return MADE_BY[self.method]

    def told(self) -> dict[str, str]:
        """What was run, by title: always the same, and then what is not as in the paper's own runs."""
        found = {
            "Data set": ", ".join(self.dataset),
            "Starting model": self.model,
            "Training": METHODS[self.method],
            "Draws per image, K": str(self.num_samples),
            "Options at most, k": str(self.topk),
            "Seed": str(self.seed),
        }
        if self.method == "divek" and self.strategy != "topk":
            found["Options in training"] = OTHER_OPTIONS[self.strategy]
        if self.protocol != "official":
            found["Parts of the data set"] = f"protocol {self.protocol}"
        if self.shots:
            found["Training images per class"] = f"{self.shots}, all classes trained on"
        if self.limit_per_class:
            found["Images used"] = f"at most {self.limit_per_class} per class and part"
        return found


@dataclass(frozen=True)
class Curves:
    """Charts over the same kind of curves, and the key that serves them all."""

    legend: list[tuple[str, Markup]]
    charts: list[Chart]


@dataclass(frozen=True)
class Found:
    """What evaluate and train wrote: metrics.json, CSV files by name, and the curves of training."""

    scores: dict[str, Any]
    csv: dict[str, pl.DataFrame]
    log: dict[str, Points]

    @property
    def models(self) -> dict[str, str]:
        """Titles of the models whose answers are shown, in order."""
        return titles(self.scores)

    @property
    def last(self) -> str:
        """The model that the run was for."""
        return list(self.models)[-1]

    @property
    def parts(self) -> dict[str, str]:
        """Titles of the parts that there are images of."""
        two_step = self.scores["base"]["two_step"]
        return {part: title for part, title in PARTS.items() if two_step[part] is not None}

    @property
    def whole(self) -> str:
        """The part that the first sentence is about."""
        return "hm" if "hm" in self.parts else "base"

    @property
    def datasets(self) -> list[str]:
        """The data sets where there are several."""
        return [name for name in self.csv["arms"]["dataset"].unique(maintain_order=True) if name != "all"]

    def arms(self, metrics: dict[str, str] = WAYS, dataset: str = "all") -> list[dict[str, Any]]:
        """A group of rows for every model, rivals too: its title, and by metric the cells of the parts."""
        rows = self.csv["arms"].filter(dataset=dataset).drop_nulls("accuracy")
        groups = []
        for model in rows["model"].unique(maintain_order=True):
            cells = {(r["metric"], r["part"]): r for r in rows.filter(model=model).iter_rows(named=True)}
            known = [name for name in metrics if any((name, part) in cells for part in self.parts)]
            if known:
                counts = {subset: cells[known[0], subset]["n"] for subset in SUBSETS if (known[0], subset) in cells}
                lines = [(name, metrics[name], [cells.get((name, part)) for part in self.parts]) for name in known]
                groups.append({"title": self.models.get(model, model), "counts": counts, "rows": lines})
        return groups

    def ceilings(self, dataset: str = "all") -> list[dict[str, Any]]:
        """As `arms`, of what no way to answer from these draws can surpass."""
        return self.arms(CEILINGS, dataset)

    def gains(self, dataset: str = "all") -> list[tuple[str, list[Cell | None]]]:
        """What training and the second step gave, by part with intervals; what was not compared is left out."""
        wanted = {
            "Training, two-step": ("base two_step", "trained two_step"),
            "Training, one-step": ("base one_step", "trained one_step"),
            f"Second step, {self.models['base'].lower()}": ("base one_step", "base two_step"),
            "Second step, after training": ("trained one_step", "trained two_step"),
        }
        rows = self.csv["differences"].filter(dataset=dataset)
        found = []
        for title, (first, second) in wanted.items():
            cells = {row["part"]: row for row in rows.filter(first=first, second=second).iter_rows(named=True)}
            if cells:
                found.append((title, [cells.get(part) for part in self.parts]))
        return found

    def gain(self) -> Cell | None:
        """What training did to two-step on the whole; None where nothing was trained."""
        rows = self.csv["differences"].filter(
            first="base two_step", second="trained two_step", dataset="all", part=self.whole
        )
        return rows.row(0, named=True) if rows.height else None

    def draws(self) -> Curves:
        """pass@k, and accuracy by number of draws, of both halves."""
        table, found, series = self.csv["draws"], [], list[Series]()
        for title, unit, name in (
            ("pass@k", "share with a right draw", "pass"),
            ("Truth offered", "share with the truth among the options", "oracle"),
            ("Vote", "share right", "vote"),
        ):
            series = [
                one
                for model in self.models
                for subset in SUBSETS
                for one in self._series(table, "draws", f"{name}_{model}_{subset}", model, subset)
            ]
            found.append(curves_chart(title, unit, "draws per image", series, shares=True))
        return Curves(legend(series), found)

    def confidence(self) -> Curves:
        """Calibration of the model that the run was for, as it is and as fitted on validation images."""
        found, seen = [], list[Series]()
        for arm, title, across in (
            ("one_step", "Calibration of one-step", "probability of the answer"),
            ("vote", "Calibration of the vote", "share of the votes"),
            ("two_step", "Calibration of two-step", "probability of the letter"),
        ):
            series = [
                one
                for fitted in ("", "_fitted")
                for subset in SUBSETS
                for one in self._series(
                    self.csv["calibration"],
                    f"confidence_{arm}_{self.last}_{subset}{fitted}",
                    f"accuracy_{arm}_{self.last}_{subset}{fitted}",
                    self.last,
                    subset,
                    fitted=bool(fitted),
                )
            ]
            if not series:
                continue
            errors = calibration_errors(self.scores[self.last].get("confidence", {}).get(arm, {}))
            if saturated([one.points for one in series if "of-fitted" not in one.look]):
                said = f"No curve to see: nearly every confidence is {SURE:g} or more, right or wrong. {errors}"
                found.append(Chart(title, said, Markup("")))
            else:
                seen += series
                found.append(curves_chart(title, "share right", across, series, errors, diagonal=True, shares=True))
        return Curves(legend(seen), found)

    def _series(
        self, table: pl.DataFrame, x: str, y: str, model: str, subset: str, fitted: bool = False
    ) -> list[Series]:
        if not {x, y} <= set(table.columns):
            return []
        points = [(a, b) for a, b in table.select(pl.col(x, y).cast(pl.Float64)).drop_nulls().rows()]
        title = "Fitted on validation images" if fitted else self.models[model]
        look, shape = ("fitted", "triangle") if fitted else (model, SHAPES[model])
        return [Series(f"{title}, {subset} classes", f"of-{look} on-{subset}", points, shape)] if points else []

    def by_class(self) -> list[dict[str, Any]]:
        """A row for every class: base ones first, the worst first, with each model's accuracy."""
        rows = [
            {**row, "shares": [row[f"two_step_{model}"] for model in self.models]}
            for row in self.csv["classes"].iter_rows(named=True)
        ]
        rows.sort(key=lambda row: (SUBSETS.index(row["subset"]), worst_first((row["name"], row["shares"]))))
        return rows

    def classes(self) -> list[Chart]:
        """Accuracy of every class, a chart for each half of each data set."""
        found, rows = [], self.by_class()
        for dataset in dict.fromkeys(self.csv["classes"]["dataset"]):
            for subset in SUBSETS:
                own = [(r["name"], r["shares"]) for r in rows if (r["dataset"], r["subset"]) == (dataset, subset)]
                title = f"{subset.capitalize()} classes"
                if own:
                    title = f"{dataset}, {title.lower()}" if self.datasets else title
                    found.append(classes_chart(title, own, list(self.models.values())))
        return found


def saturated(curves: Sequence[Points]) -> bool:
    """Whether nearly all of the confidences, of every curve, leave no doubt: there is a pile to see and no curve."""
    return all(sum(sure >= SURE for sure, _ in points) >= SATURATED * len(points) for points in curves)


def calibration_errors(trust: dict[str, Any]) -> str:
    """The calibration error of both halves before and after the fit, as a sentence; "" where none is known."""
    said = [
        f"{percent(trust[subset]['ece'])} on {subset} classes"
        + (f", {percent(fit)} when fitted" if (fit := trust[subset].get("ece_calibrated")) is not None else "")
        for subset in SUBSETS
        if subset in trust
    ]
    return f"Calibration error in points: {'; '.join(said)}." if said else ""


def percent(share: float, digits: int = 1) -> str:
    """A share in percent, halves rounded up as people do, which floats do not."""
    return str((100 * Decimal(str(share))).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def points(difference: float) -> str:
    """A difference of shares in points, with its sign."""
    said = percent(abs(difference))
    sign = "" if not Decimal(said) else "+" if difference > 0 else "−"
    return sign + said


def render_page(
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
    environment.filters |= {"percent": percent, "points": points}
    return environment.get_template("report.html.j2").render(
        asked=asked,
        found=found,
        scores=found.scores,
        parts=found.parts,
        models=found.models,
        cautions=cautions(
            found.scores, found.csv["differences"], found.csv["letters"], predictions, asked.method != "none"
        ),
        training=[line_chart(*CURVES[name], curve) for name, curve in found.log.items()],
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
        models = list(titles(scores))
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


def md5(path: Path) -> str:
    """The hash by which dvc.lock knows a file, and so git the commit of a run."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
