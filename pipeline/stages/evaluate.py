"""Score every way to answer, base model and trained model side by side."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from pipeline.core import tables, timings
from pipeline.core.cli import run
from pipeline.core.files import whole_folder, write_text
from pipeline.core.params import key, load_params
from pipeline.core.words import counted
from pipeline.evaluation.comparison import gain_sentence
from pipeline.evaluation.judge import JudgeParams, judge_models
from pipeline.evaluation.results import details, headline, report_tables
from pipeline.evaluation.scoring import require_same_images, score, union_scores
from pipeline.evaluation.unmatched import unmatched
from pipeline.method import leakage

PREDICTIONS = [Path(f"data/predictions/{name}.parquet") for name in ("base", "trained", "baselines")]
UNION = [Path(f"data/predictions/{name}_union.parquet") for name in ("base", "trained")]


@dataclass(frozen=True)
class EvaluateParams:
    topk: int = key("topk", at_least=2)
    mass: float = key("options.mass", above=0, at_most=1)
    precision: float = key("evaluate.precision", above=0, at_most=1)


def main(
    predictions: Annotated[list[Path], typer.Option(help="Table of predictions, once per model.")] = PREDICTIONS,
    union: Annotated[
        list[Path], typer.Option(help="Table of predictions with all classes as labels, once per model.")
    ] = UNION,
    samples: Annotated[Path, typer.Option(help="Table of samples.")] = Path("data/samples.parquet"),
    hard: Annotated[Path, typer.Option(help="Table of hard questions.")] = Path("data/hard.parquet"),
    images: Annotated[Path, typer.Option(help="Table of images.")] = Path("data/images.parquet"),
    classes: Annotated[Path, typer.Option(help="Table of classes.")] = Path("data/classes.parquet"),
    out: Annotated[Path, typer.Option(help="Folder to write metrics.json, details.json and tables/*.csv to.")] = Path(
        "reports"
    ),
) -> None:
    """Score every way to answer, base model and trained model side by side."""
    params, judge = load_params(EvaluateParams), load_params(JudgeParams)
    rows = pl.concat([tables.read(tables.PREDICTIONS, path) for path in predictions])
    require_same_images(rows)
    index, class_rows = tables.read(tables.IMAGES, images, leakage.COLUMNS), tables.read(tables.CLASSES, classes)
    leakage.require_clean_training(tables.read(tables.HARD, hard), index, class_rows)
    leakage.require_answered_images(rows, index)
    timings.record(images=rows["image_id"].n_unique())
    scored = score(rows)
    union_rows = [tables.read(tables.PREDICTIONS, path) for path in union]
    with_all = union_scores(pl.concat([rows.clear(), *union_rows]), scored)
    models = details(scored, params.precision, with_all)
    if judge.model:
        with judge.connect() as engine:
            summaries = judge_models(scored, class_rows, engine, judge.sample, judge.max_error_rate)
        for model, summary in summaries.items():
            models[model]["judge"] = summary
            print(
                f"judge, {model}: {summary['questions']} answers, {summary['same']} right, {summary['failed']} failed"
            )
    write_json(out / "metrics.json", headline(models))
    write_json(out / "details.json", models)
    files = report_tables(scored, class_rows, params.topk, params.mass, with_all)
    files["unmatched"] = unmatched(tables.read(tables.SAMPLES, samples), scored.test)
    with whole_folder(out / "tables") as folder:
        for name, table in files.items():
            write_text(folder / f"{name}.csv", tables.csv_text(table))
    gain = gain_sentence(files["differences"])
    print(f"{counted(rows.height, 'prediction')} scored{'; ' * bool(gain)}{gain}")


def write_json(path: Path, values: dict[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    run(main, EvaluateParams, JudgeParams)
