"""A whole training: one round, or several between which the policy draws its own options anew."""

import csv
import io
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.engines.common.draw_cache import CachingEngine, draw_cache_folder
from pipeline.engines.common.loading import load_model, load_processor
from pipeline.engines.local.transformers import TransformersEngine
from pipeline.method import hard_filter
from pipeline.method.class_lists import ClassLists
from pipeline.method.options import questions
from pipeline.method.predictions import prediction_table
from pipeline.method.sampling import draw_samples
from pipeline.method.two_steps import two_steps
from pipeline.training.checkpoints import Work
from pipeline.training.params import TrainParams
from pipeline.training.run import RunLog, run


@dataclass(frozen=True)
class TrainingData:
    """What a training is made of: questions, the hard ones with pictures, training and validation images, classes."""

    asked: pl.DataFrame
    hard: pl.DataFrame
    images: Callable[[], pl.DataFrame]  # those of the base classes, read when a further round needs them
    checked: pl.DataFrame
    classes: pl.DataFrame


@dataclass(frozen=True)
class TrainingResult:
    """Where the weights are, and what all rounds left, their steps numbered through."""

    best: Path
    outcome: RunLog
    rounds: list[dict[str, Any]]


def train(material: TrainingData, wanted: TrainParams, work: Work) -> TrainingResult:
    """All rounds, each from the best weights of the one before. Raises UserError."""
    lists = ClassLists(material.classes)
    asked, rows, source, done = material.asked, material.hard, wanted.model, 0
    whole, told = RunLog([], [], {}), [described(asked, None)]
    best, best_score = Path(source), -1.0
    for number in range(wanted.rounds):
        inner = work.inner(f"round-{number + 1}")
        steps = wanted.steps * (number + 1) // wanted.rounds - done
        if number:
            images, before = material.images(), asked
            asked = redrawn(images, material.classes, source, wanted)
            told.append(described(asked, before))
            rows = pictured(asked.filter(hard_filter.reasons(asked) == hard_filter.KEPT), images)
            if rows.height < wanted.prompts_per_step:
                print(f"round {number + 1}: the policy has {rows.height} hard questions left, and training ends")
                break
        outcome = one_round(rows, lists, material, source, wanted, inner, steps, done)
        whole = joined(whole, outcome, done)
        source, done = str(inner.best), done + steps
        score = max(outcome.checks.values(), default=-1.0)
        if score >= best_score:
            best, best_score = inner.best, score
    return TrainingResult(best, whole, [{"round": place + 1, **about} for place, about in enumerate(told)])


def one_round(
    rows: pl.DataFrame,
    lists: ClassLists,
    material: TrainingData,
    source: str,
    wanted: TrainParams,
    work: Work,
    steps: int,
    before: int,
) -> RunLog:
    import torch

    if wanted.threads:
        torch.set_num_threads(wanted.threads)
    processor = load_processor(source)
    last = work.last() if wanted.tuning == "full" else None
    # Not left to the trainer, which reads weights by the names of modules: those in files can be others.
    model = load_model(str(last or source), wanted.weights, wanted.attention)
    # TRL takes the reference of the KL term from there. It is the model that training started from.
    model.config._name_or_path = wanted.model
    check = None
    if material.checked.height:
        check = lambda model: accuracy(model, processor, material.checked, lists, wanted)  # noqa: E731
    return run(rows, lists, wanted, model, processor, work, check, steps, before)


def accuracy(model: Any, processor: Any, images: pl.DataFrame, lists: ClassLists, wanted: TrainParams) -> float:
    """Share of `images` that the model gets right in two steps, with train.check_samples draws each."""
    import torch

    engine = TransformersEngine.around(model, processor, wanted.max_rows, wanted.max_tokens)
    asked = replace(wanted, num_samples=wanted.check_samples)
    training = model.training
    model.eval()
    bfloat = wanted.precision == "bfloat16"
    with torch.autocast(model.device.type, torch.bfloat16) if bfloat else nullcontext():
        table = prediction_table(*two_steps(engine, images, lists, asked), "check", 1.0)
    model.train(training)
    return int((table["two_step"] == table["class_id"]).sum()) / table.height


def redrawn(images: pl.DataFrame, classes: pl.DataFrame, source: str, wanted: TrainParams) -> pl.DataFrame:
    """The questions of the policy in `source`, by the same functions as the stages sample and options."""
    engine = TransformersEngine(
        source, wanted.weights, wanted.attention, wanted.max_rows, wanted.max_tokens, wanted.threads
    )
    samples = draw_samples(CachingEngine(engine, draw_cache_folder()), images, classes, wanted)
    return questions(samples, images, classes, wanted.topk, wanted.seed, wanted.mass)


def pictured(hard: pl.DataFrame, images: pl.DataFrame) -> pl.DataFrame:
    """The questions with their pictures."""
    return hard.join(images.select("image_id", "image"), on="image_id", maintain_order="left")


def described(rows: pl.DataFrame, before: pl.DataFrame | None) -> dict[str, Any]:
    """What all questions of a round are like, and how far their options are from those of the round before."""
    right, valid = int(rows["truth_votes"].sum()), int(rows["valid_draws"].sum())
    about: dict[str, Any] = {
        "questions": rows.height,
        "hard": int((hard_filter.reasons(rows) == hard_filter.KEPT).sum()),
        "options": _rounded(rows["options"].list.len().mean()),
        "pass@1": _rounded(right / max(1, valid)),
        "pass@K": _rounded((rows["truth_votes"] > 0).mean()),
        "distinct": _rounded(rows["distinct"].mean()),
        "jaccard": None,
    }
    if before is not None:
        sets = [
            dict(
                zip(
                    frame["image_id"],
                    (frozenset(o["class_id"] for o in options) for options in frame["options"]),
                    strict=True,
                )
            )
            for frame in (before, rows)
        ]
        shared = [image_id for image_id in sets[0] if image_id in sets[1]]
        overlaps = [len(sets[0][i] & sets[1][i]) / len(sets[0][i] | sets[1][i]) for i in shared]
        about["jaccard"] = _rounded(sum(overlaps) / len(overlaps)) if overlaps else None
    return about


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)


def joined(whole: RunLog, part: RunLog, before: int) -> RunLog:
    """Two outcomes as one, the steps of the second numbered after those of the first."""
    later = [entry | {"step": entry["step"] + before} for entry in part.history if "step" in entry]
    return RunLog(
        whole.history + later,
        whole.rollouts + [row | {"step": row["step"] + before} for row in part.rollouts],
        whole.checks | {step + before: score for step, score in part.checks.items()},
    )


def rounds_table(rounds: list[dict[str, Any]]) -> str:
    """The rounds as CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, rounds[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rounds)
    return out.getvalue()
