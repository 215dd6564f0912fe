"""The log of training: its curves, and the copies of it that are committed with a report."""

import csv
import io
from collections.abc import Sequence
from math import isfinite
from pathlib import Path

import polars as pl

from pipeline.core.params import UserError

Points = Sequence[tuple[float, float]]
"""Places on a curve: (x, y), such as (step, value)."""

CURVES = {
    "answer_reward": ("Answer reward", "share of completions with the right answer"),
    "share_of_groups_without_variance": ("Groups without variance", "share of groups"),
    "entropy": ("Entropy", "nats per token"),
    "completion_length": ("Completion length", "tokens"),
    "kl": ("KL from the base model", "nats per token"),
    "validation_two_step": ("Validation", "two-step accuracy, base classes"),
}
"""Columns of the log, with their title and unit on the page."""

DIGITS = 3
"""Significant digits of the committed copy: processors differ in later ones."""

LOSS_DECIMALS = 4
"""Decimals of the loss in it: advantages cancel in the sum, and near 0 only a processor's rounding is left."""


def read_log(path: Path) -> dict[str, Points]:
    """The points of every curve that has any; empty cells have none. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro train` writes it")
    lines = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    missing = [name for name in ("step", *CURVES) if name not in (lines.fieldnames or ())]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}; `dvc repro train` writes it again")
    curves: dict[str, list[tuple[float, float]]] = {name: [] for name in CURVES}
    for number, line in enumerate(lines, start=2):
        for name, points in curves.items():
            try:
                point = (float(line["step"]), float(line[name])) if line[name] else (0.0, float("nan"))
            except ValueError:
                cells = f"step {line['step']!r} and {name} {line[name]!r}"
                raise UserError(
                    f"{path}, line {number}: {cells} must be numbers; `dvc repro train` writes the file again"
                ) from None
            if isfinite(point[1]):
                points.append(point)
    return {name: points for name, points in curves.items() if points}


def rounded_log(path: Path) -> str:
    """The log as CSV with DIGITS significant digits, so that the committed copy is the same on other processors.

    Without the check before training, a line whose empty cells a plot would show as 0.
    """
    log = pl.read_csv(path, infer_schema_length=None).filter(pl.col("step") > 0)
    loss = pl.selectors.by_name("loss", require_all=False)
    return log.with_columns(
        (pl.selectors.float() - loss).round_sig_figs(DIGITS),
        pl.when(loss.round(LOSS_DECIMALS) != 0).then(loss.round(LOSS_DECIMALS)).otherwise(0.0),  # not -0.0
    ).write_csv()


def validation_points(path: Path) -> str:
    """The steps with a validation accuracy, as CSV: a plot of the whole log would show the other steps as 0."""
    columns = ["step", "validation_two_step"]
    return pl.read_csv(path, columns=columns, schema_overrides={columns[1]: pl.Float64}).drop_nulls().write_csv()
