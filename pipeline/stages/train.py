"""Train the model to choose the right option of its own hard questions, or by one of the baselines.

Departures from the paper:
1. The letter is read by the strict parser of pipeline/method/answers.py, in training as in evaluation.
2. No setting that matters is left to a library default: params.yaml writes them out.
3. The weights kept are those that do best on validation images of base classes, not the last ones.
"""

import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline.core import tables
from pipeline.core.cli import run
from pipeline.core.files import whole_folder, write_text
from pipeline.core.model_language import require_prompt_for
from pipeline.core.params import load_params
from pipeline.engines.common.loading import training_precision, warn_of_slow_bfloat16
from pipeline.engines.common.model_folder import local_folder
from pipeline.method import leakage
from pipeline.method.image_sets import training_images, validation_images
from pipeline.training.checkpoints import RunFolder
from pipeline.training.curves import curves, run_line
from pipeline.training.examples import require_enough
from pipeline.training.launch import is_main_process, launch, needs_launch
from pipeline.training.params import TrainParams
from pipeline.training.round_statistics import round_statistics, rounds_table
from pipeline.training.trackers import require_trackers


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
    params = load_params(TrainParams)
    require_prompt_for(params.model, params.prompt)
    require_trackers(params.report_to)
    question_rows, hard_rows = tables.read(tables.QUESTIONS, questions), tables.read(tables.HARD, hard)
    class_rows, index = tables.read(tables.CLASSES, classes), tables.read(tables.IMAGES, images, leakage.COLUMNS)
    leakage.require_clean_training(hard_rows, index, class_rows)
    require_enough(hard_rows, params)
    if needs_launch(params):
        launch(params, sys.argv[1:])
        return
    from pipeline.training.rounds import TrainingData, TrainingResult, train, with_pictures
    from pipeline.training.run import RunLog
    from pipeline.training.tuning import require_tuning

    require_tuning(params)
    hard_rows = with_pictures(hard_rows, tables.read_images(images, hard_rows["image_id"]))
    validation = validation_images(index, class_rows, params.check_images)
    validation = tables.read_images(images, validation["image_id"])
    training_ids = training_images(index, class_rows)["image_id"]
    params = replace(params, precision=training_precision(params.precision))
    warn_of_slow_bfloat16(params.precision)
    folder = RunFolder.of(params, hard_rows, validation)
    if params.method == "none":
        statistics = [{"round": 1, **round_statistics(question_rows, hard_rows.height, None)}]
        result = TrainingResult(local_folder(params.model), RunLog([], [], {}), statistics)
    else:
        read_images = partial(tables.read_images, images, training_ids)
        data = TrainingData(question_rows, hard_rows, read_images, validation, class_rows)
        result = train(data, params, folder, lambda so_far: write_text(log, curves(so_far.history, so_far.checks)))
    if not is_main_process():
        return
    write_text(log, curves(result.log.history, result.log.checks))
    write_text(rounds, rounds_table(result.rounds))
    tables.write(tables.ROLLOUTS, pl.DataFrame(result.log.rollouts, schema=tables.ROLLOUTS.schema), rollouts)
    with whole_folder(policy) as target:
        shutil.copytree(result.best, target, dirs_exist_ok=True)
    folder.clear()
    print(run_line(params, result.log.checks))


if __name__ == "__main__":
    run(main, TrainParams)
