"""Score every way to answer, base model and trained model side by side."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from pipeline import gate, metrics, params, tables
from pipeline.answers import answer_text
from pipeline.cli import run
from pipeline.files import write_text
from pipeline.params import UserError

PREDICTIONS = [Path("data/predictions/base.parquet"), Path("data/predictions/trained.parquet")]


def require_same_images(predictions: pl.DataFrame) -> None:
    """Raises UserError unless every model answered the same images, each once and with as many draws."""
    rows = predictions.group_by("model", maintain_order=True).agg("image_id", draws=pl.col("draws").list.len().unique())
    images = [sorted(ids) for ids in rows["image_id"]]
    draws = {tuple(counts) for counts in rows["draws"].to_list()}
    if any(ids != images[0] or len(set(ids)) < len(ids) for ids in images) or len(draws) > 1:
        counts = ", ".join(f"{len(ids)} rows of {model}" for model, ids in zip(rows["model"], images, strict=True))
        raise UserError(
            f"data/predictions: found {counts}, not of the same images and draws, wanted each image once per model; "
            "`dvc repro predict` writes them anew"
        )


def evaluate(predictions: pl.DataFrame) -> dict[str, Any]:
    """Everything in metrics.json: each model's metrics, letter choice and statuses; then what training gained."""
    models = {
        str(model): {
            **metrics.by_half(rows),
            **({"datasets": sets} if (sets := metrics.by_dataset(rows)) else {}),
            "K": metrics.draws_per_image(rows),
            "letter_choice": metrics.letter_choice(rows),
            "status": metrics.status_counts(rows),
        }
        for (model,), rows in predictions.group_by("model", maintain_order=True)
    }
    if {"base", "trained"} <= set(models):
        before, after = models["base"]["two_step"], models["trained"]["two_step"]
        parts = [part for part in ("base", "novel", "hm") if before[part] is not None]
        models["gain"] = {"two_step": {part: round(after[part] - before[part], 4) for part in parts}}
    return models


def tidy(models: dict[str, Any]) -> pl.DataFrame:
    """One row per model, data set ("all": their mean), metric and half, for spreadsheets."""
    return pl.DataFrame(
        [
            {"model": model, "dataset": name, "metric": metric, "half": half, "accuracy": found[metric][half]}
            for model in models
            if model != "gain"
            for name, found in {"all": models[model], **models[model].get("datasets", {})}.items()
            for metric in ("pass@1", "pass@K", *metrics.ARMS)
            for half in ("base", "novel", "hm")
        ],
        schema_overrides={"accuracy": pl.Float64},
    )


def unmatched(samples: pl.DataFrame, predictions: pl.DataFrame) -> pl.DataFrame:
    """Answers of step 1 that name no class of the image's own half, with their counts, most frequent first."""
    drawn = predictions.select("model", text="draw_texts", status="draw_statuses").explode("text", "status")
    test = drawn.filter(pl.col("status") == "off_list").with_columns(
        source=pl.lit("test draws, ") + pl.col("model"),
        answer=pl.col("text").map_elements(answer_text, return_dtype=pl.String),
    )
    train = samples.filter(pl.col("status") == "off_list").select("answer", source=pl.lit("training draws"))
    return (
        pl.concat([train.select("source", "answer"), test.select("source", "answer")])
        .group_by("source", "answer", maintain_order=True)
        .agg(draws=pl.len())
        .sort("source", "draws", "answer", descending=[False, True, False])
    )


@dataclass(frozen=True)
class EvaluateParams:
    hash_distance: int = params.key("gate.hash_distance", at_least=-1, at_most=gate.HASH_BITS)


def main(
    predictions: Annotated[list[Path], typer.Option(help="Table of predictions, once per model.")] = PREDICTIONS,
    samples: Annotated[Path, typer.Option(help="Table of samples.")] = Path("data/samples.parquet"),
    hard: Annotated[Path, typer.Option(help="Table of hard questions.")] = Path("data/hard.parquet"),
    images: Annotated[Path, typer.Option(help="Table of images.")] = Path("data/images.parquet"),
    classes: Annotated[Path, typer.Option(help="Table of classes.")] = Path("data/classes.parquet"),
    out: Annotated[Path, typer.Option(help="JSON file of metrics to write.")] = Path("reports/metrics.json"),
    arms: Annotated[Path, typer.Option(help="CSV of the same numbers to write.")] = Path("reports/arms.csv"),
    lost: Annotated[Path, typer.Option(help="CSV of unmatched answers to write.")] = Path("reports/unmatched.csv"),
) -> None:
    """Score every way to answer, base model and trained model side by side."""
    rows = pl.concat([tables.read(tables.PREDICTIONS, path) for path in predictions])
    require_same_images(rows)
    index = tables.read(tables.IMAGES, images, gate.COLUMNS)
    questions = tables.read(tables.HARD, hard)
    gate.require_apart(index, params.load(EvaluateParams).hash_distance)
    gate.require_base_only(questions, tables.read(tables.CLASSES, classes))
    gate.require_training_images(questions, index)
    gate.require_test_images(rows, index)
    models = evaluate(rows)
    write_text(out, json.dumps(models, indent=2, sort_keys=True) + "\n")
    write_text(arms, tidy(models).write_csv())
    write_text(lost, unmatched(tables.read(tables.SAMPLES, samples), rows).write_csv())
    gain = models.get("gain", {}).get("two_step", {})
    part = "hm" if "hm" in gain else "base"
    said = f"; training gains {100 * gain[part]:+.1f} points of two-step {part}" if gain else ""
    print(f"{rows.height} predictions scored{said}")


if __name__ == "__main__":
    run(main)
