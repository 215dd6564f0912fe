"""Train the model to choose the right option of its own hard questions, or by one of the baselines.

Departures from the paper:
1. The letter is read by the strict parser of pipeline/method/answers.py, in training as in evaluation.
2. No setting that matters is left to a library default: params.yaml writes them out.
3. The weights kept are those that do best on validation images of base classes, not the last ones.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline.core import tables
from pipeline.core.cli import run
from pipeline.core.files import whole_folder, write_text
from pipeline.core.params import load_params
from pipeline.engines.common.loading import computes_in_bfloat16, local_folder
from pipeline.method import leakage
from pipeline.method.image_sets import training_images, validation_images
from pipeline.training.checkpoints import Work
from pipeline.training.outputs import LAUNCHED, curves, launched, require_enough, train_summary
from pipeline.training.params import TrainParams


def main(
    questions: Annotated[Path, typer.Option(help="Table of questions.")] = Path("data/questions.parquet"),
    hard: Annotated[Path, typer.Option(help="Table of hard questions.")] = Path("data/hard.parquet"),
    images: Annotated[Path, typer.Option(help="Table of images.")] = Path("data/images.parquet"),
    classes: Annotated[Path, typer.Option(help="Table of classes.")] = Path("data/classes.parquet"),
    policy: Annotated[Path, typer.Option(help="Model folder to write.")] = Path("models/policy"),
    log: Annotated[Path, typer.Option(help="CSV of the training curves to write.")] = Path("data/training.csv"),
    rollouts: Annotated[Path, typer.Option(help="Table of completions to write.")] = Path("data/rollouts.parquet"),
    rounds: Annotated[Path, typer.Option(help="CSV of the rounds to write.")] = Path("data/rounds.csv"),
) -> None:
    """Train the model to choose the right option of its own hard questions, or by one of the baselines."""
    wanted = load_params(TrainParams)
    asked, kept = tables.read(tables.QUESTIONS, questions), tables.read(tables.HARD, hard)
    class_rows = tables.read(tables.CLASSES, classes)
    index = tables.read(tables.IMAGES, images, leakage.COLUMNS)
    leakage.require_apart(index, wanted.hash_distance)
    leakage.require_base_only(kept, class_rows)
    leakage.require_training_images(kept, index)
    require_enough(kept, wanted)
    if wanted.launcher == "accelerate" and LAUNCHED not in os.environ:
        launched(wanted, sys.argv[1:])
        return
    from pipeline.training.rounds import TrainingData, TrainingResult, described, pictured, rounds_table, train
    from pipeline.training.run import RunLog

    def pictures(ids: pl.Series) -> pl.DataFrame:
        return tables.read(tables.IMAGES, images, where=pl.col("image_id").is_in(ids.implode()))

    rows = pictured(kept, pictures(kept["image_id"]))
    checked = pictures(validation_images(index, class_rows, wanted.check_images)["image_id"])
    if wanted.precision == "bfloat16" and not computes_in_bfloat16():
        print(
            "params.yaml: train.precision is bfloat16, which this CPU only imitates, many times slower than float32; "
            "stop it and `dvc exp run -S train.precision=float32`",
            file=sys.stderr,
        )
    work = Work.of(wanted, rows, checked)
    if wanted.method == "none":
        trained = TrainingResult(
            local_folder(wanted.model), RunLog([], [], {}), [{"round": 1, **described(asked, None)}]
        )
    else:
        every = training_images(index, class_rows)["image_id"]
        trained = train(TrainingData(asked, rows, lambda: pictures(every), checked, class_rows), wanted, work)
    if int(os.environ.get("RANK", "0")):
        return
    found = trained.outcome
    write_text(log, curves(found.history, found.checks))
    write_text(rounds, rounds_table(trained.rounds))
    tables.write(tables.ROLLOUTS, pl.DataFrame(found.rollouts, schema=tables.ROLLOUTS.schema), rollouts)
    with whole_folder(policy) as folder:
        shutil.copytree(trained.best, folder, dirs_exist_ok=True)
    work.clear()
    print(train_summary(wanted, found.history, found.checks))


if __name__ == "__main__":
    run(main, TrainParams)
