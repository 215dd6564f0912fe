"""What evaluate and train wrote about a run: read and checked, for the tables, charts and caveats of the page."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.core.params import UserError
from pipeline.evaluation.ways import WAYS
from pipeline.method.predictions import UNION
from pipeline.reporting.training_log import Points, read_log

AVERAGES = {"base": "Base classes", "novel": "Novel classes", "hm": "Harmonic mean"}
"""Titles of the averages that are shown, by what the column `subset` calls them."""

COLUMNS = {
    "accuracies": ("model", "dataset", "metric", "subset", "n", "accuracy", "low", "high", "clusters", "cluster"),
    "differences": ("first", "second", "dataset", "subset", "n", "difference", "low", "high", "detectable"),
    "draws": ("draws",),
    "calibration": ("tenth",),
    "classes": ("dataset", "name", "subset", "n", "two_step_base"),
    "letters": ("model", "letter", "chosen", "truth"),
}
"""The files of reports/tables that the page reads, with the columns that each must have."""

Cell = dict[str, Any]
"""A row of accuracies.csv or differences.csv."""


@dataclass(frozen=True)
class RunResults:
    """The results of one run.

    Attributes:
        details: reports/details.json.
        tables: the files of COLUMNS, by name.
        log: the curves of training, by column.
    """

    details: dict[str, Any]
    tables: dict[str, pl.DataFrame]
    log: dict[str, Points]

    @property
    def models(self) -> dict[str, str]:
        """Titles of the base model and of the trained one, as far as they were scored, in this order."""
        return model_titles(self.details)

    def title(self, model: str) -> str:
        """What the page calls a model."""
        own = model.removesuffix(UNION)
        return self.models.get(own, own) + (", all classes as labels" if own != model else "")

    @property
    def subject(self) -> str:
        """The model that the run was for."""
        return list(self.models)[-1]

    @property
    def averages(self) -> dict[str, str]:
        """Titles of the averages that exist: a run with few shots has no novel classes."""
        two_step = self.details["base"]["two_step"]
        return {name: title for name, title in AVERAGES.items() if two_step[name] is not None}

    @property
    def headline(self) -> str:
        """The average that the first sentence of the page is about."""
        return "hm" if "hm" in self.averages else "base"

    @property
    def datasets(self) -> list[str]:
        """The data sets where there are several, else none."""
        return [name for name in self.tables["accuracies"]["dataset"].unique(maintain_order=True) if name != "all"]

    def difference(self, first: str, second: str, subset: str) -> Cell | None:
        """The comparison of two answers over all data sets; None where they were not compared.

        Args:
            first, second: model and way, such as "base two_step".
        """
        rows = self.tables["differences"].filter(first=first, second=second, dataset="all", subset=subset)
        return rows.row(0, named=True) if rows.height else None

    def gain(self, subset: str) -> Cell | None:
        """What training changed in two-step accuracy; None where nothing was trained."""
        return self.difference("base two_step", "trained two_step", subset)


def model_titles(details: dict[str, Any]) -> dict[str, str]:
    """What the page calls the two models of the method, by their names in the tables."""
    return {"base": "Before training", "trained": "After training"} if "trained" in details else {"base": "Base model"}


def read_results(details: Path, folder: Path, training: Path) -> RunResults:
    """Everything that the page shows besides the images. Raises UserError.

    Args:
        details: reports/details.json.
        folder: reports/tables.
        training: data/training.csv.
    """
    return RunResults(read_details(details), {name: read_table(folder, name) for name in COLUMNS}, read_log(training))


def read_details(path: Path) -> dict[str, Any]:
    """What evaluate wrote about every model. Raises UserError where a part that the page shows is missing."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro evaluate` writes it")
    try:
        details: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        parts = [*(way.name for way in WAYS), "letter_choice", "status"]
        missing = [f"{model}.{part}" for model in model_titles(details) for part in parts if part not in details[model]]
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path} is not a file of evaluate; `dvc repro evaluate` writes it again") from None
    if missing:
        raise UserError(f"{path} has no {', '.join(missing)}; `dvc repro evaluate` writes it again")
    return details


def read_table(folder: Path, name: str) -> pl.DataFrame:
    """One of COLUMNS. Raises UserError where it is missing, or not what evaluate writes."""
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro evaluate` writes it")
    try:
        table = pl.read_csv(path, infer_schema_length=None)
    except pl.exceptions.PolarsError:
        table = pl.DataFrame()
    if missing := [column for column in COLUMNS[name] if column not in table.columns]:
        raise UserError(f"{path} has no column {', '.join(missing)}; `dvc repro evaluate` writes it again")
    return table


def md5(path: Path) -> str:
    """The hash under which dvc.lock lists a file, by which git finds the commit of a run."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
