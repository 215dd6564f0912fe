"""A whole training: one round, or several between which the policy draws its own options again."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.core.words import counted
from pipeline.engines.common.draw_cache import CachingEngine, draw_cache_folder
from pipeline.engines.common.loading import load_model, load_processor
from pipeline.engines.common.model_folder import local_folder
from pipeline.engines.local.transformers import TransformersEngine
from pipeline.method.class_lists import ClassLists
from pipeline.method.hard_filter import hard_questions
from pipeline.method.options import questions
from pipeline.method.predictions import prediction_table
from pipeline.method.sampling import draw_samples
from pipeline.method.two_steps import two_steps
from pipeline.training.checkpoints import RunFolder
from pipeline.training.curves import best_step
from pipeline.training.monitor import Watch
from pipeline.training.params import TrainParams
from pipeline.training.rollouts import inference
from pipeline.training.round_statistics import round_statistics
from pipeline.training.run import RunLog, run
from pipeline.training.saving import WEIGHTS
from pipeline.training.trl_adapter import set_reference
from pipeline.training.tuning import weights_dtype


@dataclass(frozen=True)
class TrainingData:
    """The tables of a training.

    Attributes:
        questions: all of them.
        hard: the hard ones, with pictures.
        read_images: reads the training images of the base classes, which a further round needs.
        validation: the images of the checks, with pictures.
        classes: the table of classes.
    """

    questions: pl.DataFrame
    hard: pl.DataFrame
    read_images: Callable[[], pl.DataFrame]
    validation: pl.DataFrame
    classes: pl.DataFrame


@dataclass(frozen=True)
class TrainingResult:
    """What a training results in.

    Attributes:
        best: model folder with the best weights; the model itself where no training has improved it.
        log: of all rounds, with their steps numbered consecutively.
        rounds: a row for each round.
    """

    best: Path
    log: RunLog
    rounds: list[dict[str, Any]]


def train(
    data: TrainingData, params: TrainParams, folder: RunFolder, watch: Callable[[RunLog], None]
) -> TrainingResult:
    """All rounds, each from the best weights so far; `watch` sees the log after every step. Raises UserError."""
    lists = ClassLists(data.classes)
    previous, hard, source, done = data.questions, data.hard, params.model, 0
    log, statistics = RunLog([], [], {}), [{"round": 1, **round_statistics(data.questions, data.hard.height, None)}]
    for number in range(1, params.rounds + 1):
        if number > 1:
            images = data.read_images()
            current = redraw_questions(images, data.classes, source, params)
            hard = with_pictures(hard_questions(current, params.drop), images)
            statistics.append({"round": number, **round_statistics(current, hard.height, previous)})
            previous = current
            if hard.height < params.prompts_per_step:
                left = counted(hard.height, "hard question")
                print(f"round {number}: only {left} left, fewer than a step needs; stopping")
                break
        steps = params.steps * number // params.rounds - done
        round_folder = folder.inner(f"round-{number}")
        round_log = train_round(
            hard, lists, data.validation, source, params, round_folder, steps, done, _watch_of_round(watch, log, done)
        )
        log = join_logs(log, round_log, done)
        done += steps
        if best_step(round_log.checks) != 0:
            source = str(round_folder.best)
    return TrainingResult(local_folder(source), log, statistics)


def _watch_of_round(watch: Callable[[RunLog], None], log: RunLog, before: int) -> Watch:
    """Sees the log of a round behind that of the rounds before it."""
    return lambda history, checks: watch(join_logs(log, RunLog(history, [], checks), before))


def train_round(
    hard: pl.DataFrame,
    lists: ClassLists,
    validation: pl.DataFrame,
    source: str,
    params: TrainParams,
    folder: RunFolder,
    steps: int,
    before: int,
    watch: Watch = lambda history, checks: None,
) -> RunLog:
    """One round from the weights in `source`, or from its last checkpoint."""
    import torch

    if params.threads:
        torch.set_num_threads(params.threads)
    processor = load_processor(source)
    checkpoint = folder.last() if params.tuning == "full" else None
    # Not left to the trainer, which reads weights by the names of modules; the names in files can differ.
    model = load_model(str(checkpoint or source), weights_dtype(params), params.attention)
    set_reference(model, params.model)

    def check(model: Any) -> float:
        return two_step_accuracy(model, processor, validation, lists, params)

    files = local_folder(source, without=WEIGHTS)
    check_or_none = check if validation.height else None
    return run(hard, lists, params, model, processor, files, folder, check_or_none, steps, before, watch)


def two_step_accuracy(
    model: Any, processor: Any, images: pl.DataFrame, lists: ClassLists, params: TrainParams
) -> float:
    """Share of `images` that the model has right in two steps, with train.check_samples draws each."""
    engine = TransformersEngine.of_model(model, processor, params.max_rows, params.max_tokens, params.chat)
    with inference(model, params.precision):
        steps, choices = two_steps(
            engine, images, lists, replace(params, num_samples=params.check_samples, max_error_rate=1.0)
        )
    table = prediction_table(steps, choices, "check", max_error_rate=1.0)
    return int((table["two_step"] == table["class_id"]).sum()) / table.height


def redraw_questions(images: pl.DataFrame, classes: pl.DataFrame, source: str, params: TrainParams) -> pl.DataFrame:
    """The questions of the policy in `source`, by the functions of the stages sample and options."""
    engine = TransformersEngine(
        source, params.weights, params.attention, params.max_rows, params.max_tokens, params.threads, params.chat
    )
    samples = draw_samples(CachingEngine(engine, draw_cache_folder()), images, classes, params)
    return questions(samples, images, classes, params.topk, params.seed, params.mass, filler=params.filler)


def with_pictures(hard: pl.DataFrame, images: pl.DataFrame) -> pl.DataFrame:
    """The questions with their pictures."""
    return hard.join(images.select("image_id", "image"), on="image_id", maintain_order="left")


def join_logs(log: RunLog, further: RunLog, before: int) -> RunLog:
    """Two logs as one; the steps of the second follow the `before` steps of the first, which end with its start."""
    return RunLog(
        log.history + [entry | {"step": entry["step"] + before} for entry in further.history if "step" in entry],
        log.rollouts + [row | {"step": row["step"] + before} for row in further.rollouts],
        log.checks | {step + before: score for step, score in further.checks.items() if step or not before},
    )
