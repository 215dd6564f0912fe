"""Score every way to answer, base model and trained model side by side."""

import json
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from pipeline import metrics, tables
from pipeline.cli import run

PREDICTIONS = [Path("data/predictions/base.parquet"), Path("data/predictions/trained.parquet")]


def evaluate(predictions: pl.DataFrame) -> dict[str, Any]:
    """Everything in metrics.json: each model's metrics, letter choice and statuses; then what training gained."""
    models = {
        str(model): {
            **metrics.by_half(rows),
            "letter_choice": metrics.letter_choice(rows),
            "status": metrics.status_counts(rows),
        }
        for (model,), rows in predictions.group_by("model", maintain_order=True)
    }
    if {"base", "trained"} <= set(models):
        before, after = models["base"]["two_step"], models["trained"]["two_step"]
        models["gain"] = {"two_step": {part: round(after[part] - before[part], 4) for part in ("base", "novel", "hm")}}
    return models


def tidy(models: dict[str, Any]) -> pl.DataFrame:
    """One row per model, metric and half: what DVC plots and spreadsheets read."""
    return pl.DataFrame(
        [
            {"model": model, "metric": metric, "half": half, "accuracy": models[model][metric][half]}
            for model in models
            if model != "gain"
            for metric in ("pass@1", "pass@K", *metrics.ARMS)
            for half in ("base", "novel", "hm")
        ]
    )


def main(
    predictions: Annotated[list[Path], typer.Option(help="Table of predictions, once per model.")] = PREDICTIONS,
    out: Annotated[Path, typer.Option(help="JSON file of metrics to write.")] = Path("reports/metrics.json"),
    arms: Annotated[Path, typer.Option(help="CSV of the same numbers to write.")] = Path("reports/arms.csv"),
) -> None:
    """Score every way to answer, base model and trained model side by side."""
    rows = pl.concat([tables.read(tables.PREDICTIONS, path) for path in predictions])
    models = evaluate(rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(models, indent=2, sort_keys=True) + "\n")
    arms.write_text(tidy(models).write_csv())
    gain = models.get("gain", {}).get("two_step", {}).get("hm")
    print(
        f"{rows.height} predictions scored"
        + (f"; training gains {100 * gain:+.1f} points of two-step HM" if gain is not None else "")
    )


if __name__ == "__main__":
    run(main)
