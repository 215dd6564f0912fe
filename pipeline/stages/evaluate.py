"""Score every way to answer, base model and trained model side by side."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline.core import tables, timings
from pipeline.core.cli import run
from pipeline.core.files import write_text
from pipeline.core.params import key, load_params
from pipeline.evaluation.judge import JudgeParams
from pipeline.evaluation.results import evaluate, gain_sentence, open_answers, require_same_images, results, unmatched
from pipeline.method import leakage

PREDICTIONS = [Path(f"data/predictions/{name}.parquet") for name in ("base", "trained", "baselines")]


@dataclass(frozen=True)
class EvaluateParams:
    hash_distance: int = key("leakage.hash_distance", at_least=-1, at_most=leakage.HASH_BITS)
    topk: int = key("topk", at_least=2)
    mass: float = key("options.mass", above=0, at_most=1)
    precision: float = key("evaluate.precision", above=0, at_most=1)


def main(
    predictions: Annotated[list[Path], typer.Option(help="Table of predictions, once per model.")] = PREDICTIONS,
    samples: Annotated[Path, typer.Option(help="Table of samples.")] = Path("data/samples.parquet"),
    hard: Annotated[Path, typer.Option(help="Table of hard questions.")] = Path("data/hard.parquet"),
    images: Annotated[Path, typer.Option(help="Table of images.")] = Path("data/images.parquet"),
    classes: Annotated[Path, typer.Option(help="Table of classes.")] = Path("data/classes.parquet"),
    out: Annotated[Path, typer.Option(help="Folder of metrics.json and CSV files to write.")] = Path("reports"),
) -> None:
    """Score every way to answer, base model and trained model side by side."""
    asked = load_params(EvaluateParams)
    rows = pl.concat([tables.read(tables.PREDICTIONS, path) for path in predictions])
    require_same_images(rows)
    index, class_rows = tables.read(tables.IMAGES, images, leakage.COLUMNS), tables.read(tables.CLASSES, classes)
    questions = tables.read(tables.HARD, hard)
    leakage.require_apart(index, asked.hash_distance)
    leakage.require_base_only(questions, class_rows)
    leakage.require_training_images(questions, index)
    leakage.require_answered_images(rows, index)
    timings.record(images=rows["image_id"].n_unique())
    models = evaluate(rows, asked.precision)
    judge, tested = load_params(JudgeParams), rows.filter(split="test")
    if judge.model:
        worded = tested.filter(pl.col("draws").list.len() > 0)  # the others choose from a list
        for model, said in open_answers(
            worded, class_rows, judge.connect(), judge.sample, judge.max_error_rate
        ).items():
            models[model]["judge"] = said
            print(f"judge, {model}: {said['asked']} answers asked about, {said['same']} right, {said['failed']} failed")
    write_text(out / "metrics.json", json.dumps(models, indent=2, sort_keys=True) + "\n")
    files = results(rows, class_rows, asked.topk, asked.mass)
    files["unmatched"] = unmatched(tables.read(tables.SAMPLES, samples), tested)
    for name, table in files.items():
        write_text(out / f"{name}.csv", table.write_csv())
    print(f"{rows.height} predictions scored{gain_sentence(files['differences'])}")


if __name__ == "__main__":
    run(main, EvaluateParams, JudgeParams)
