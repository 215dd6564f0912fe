"""Train the model to choose the right option of its own hard questions, or by one of the baselines.

Departures from the paper:
1. The letter is read by the strict parser of pipeline/method/answers.py, in training as in evaluation.
2. No setting that matters is left to a library default: params.yaml writes them out.
3. The weights kept are those that do best on validation images of base classes, not the last ones.
"""

import csv
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from pipeline.core import tables
from pipeline.core.cli import run
from pipeline.core.files import whole_folder, write_text
from pipeline.core.params import UserError, load_params
from pipeline.engines.loading import computes_in_bfloat16, local_folder
from pipeline.method import leakage
from pipeline.stages.predict import validation_images
from pipeline.stages.sample import training_images
from pipeline.training.checkpoints import Work
from pipeline.training.params import TrainParams

CURVES = {
    "step": "step",
    "rewards/answer": "answer_reward",
    "rewards/format_reward/mean": "format_reward",
    "frac_reward_zero_std": "share_of_groups_without_variance",
    "entropy": "entropy",
    "kl": "kl",
    "completions/mean_length": "completion_length",
    "loss": "loss",
    "grad_norm": "gradient_norm",
    "learning_rate": "learning_rate",
    "validation": "validation_two_step",
}
"""TRL's names of what it logs (and two of our own), and what the table of curves calls it."""
LAUNCHED = "DIVEK_LAUNCHED"  # set in the processes that accelerate starts
ANSWER_REWARDS = ("letter_reward", "name_reward", "string_reward")


def curves(history: list[dict[str, Any]], checks: dict[int, float]) -> str:
    """What TRL logged, one CSV line per optimiser step, with the checks on validation images."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CURVES.values())
    for entry in history:
        if "learning_rate" in entry:
            found = entry | {
                "rewards/answer": next(
                    (entry[key] for name in ANSWER_REWARDS if (key := f"rewards/{name}/mean") in entry), None
                ),
                "validation": checks.get(entry["step"]),
            }
            writer.writerow([_rounded(found.get(name)) for name in CURVES])
    return out.getvalue()


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def require_enough(rows: pl.DataFrame, wanted: TrainParams) -> None:
    """Raises UserError where the questions do not fill a step."""
    if rows.height < wanted.prompts_per_step:
        raise UserError(
            f"data/hard.parquet: {rows.height} questions, wanted at least train.prompts_per_step = "
            f"{wanted.prompts_per_step}; lower it with `dvc exp run -S train.prompts_per_step={rows.height}`"
        )


def launched(wanted: TrainParams, arguments: list[str]) -> None:
    """Runs this stage in several processes, with accelerate. Raises UserError where it fails."""
    settings = ["--config_file", wanted.launch_config] if wanted.launch_config else []
    command = [sys.executable, "-m", "accelerate.commands.launch", *settings, "-m", "pipeline.stages.train", *arguments]
    code = subprocess.run(command, env=os.environ | {LAUNCHED: "1"}).returncode
    if code:
        raise UserError(f"train: {' '.join(command[1:])} ended with code {code}; its own message is above")


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
    print(summary(wanted, found.history, found.checks))


def summary(wanted: TrainParams, history: list[dict[str, Any]], checks: dict[int, float]) -> str:
    """The run in one line."""
    if wanted.method == "none":
        return f"not trained: the policy is {wanted.model}"
    steps = f"{wanted.steps} steps of {wanted.prompts_per_step} prompts"
    said = f" × {wanted.generations} completions" if wanted.method != "sft" else ""
    best = max(checks, key=lambda step: (checks[step], step), default=None)
    kept = f"; kept the weights of step {best}, {checks[best]:.1%} of the validation images right" if best else ""
    return f"{wanted.method}: {steps}{said}{kept}"


if __name__ == "__main__":
    run(main, TrainParams)
