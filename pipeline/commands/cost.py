"""Estimate the hours and tokens of a run from what past runs took."""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from pipeline import params, rates, tables
from pipeline.params import UserError

STAGES = ("download", "sample", "options", "filter", "train", "predict", "evaluate", "report")
LAST = 5  # runs of a stage that count
NO_RUN = "no past run is known in .work/rates; `dvc repro` makes one, with any number of images"
DRAWING = ("sample", "predict")  # what several workers share


@dataclass(frozen=True)
class CostParams:
    num_samples: int = params.key("num_samples", at_least=1)
    steps: int = params.key("train.steps", at_least=1)
    val_images: int = params.key("predict.val_images", at_least=0)
    models: tuple[str, ...] = params.key("evaluate.models")


@dataclass(frozen=True)
class Rate:
    """What a stage takes: seconds whatever the work, and seconds, draws and tokens for each unit of it; peak MiB."""

    startup: float
    seconds: float
    tokens: float
    prompt_tokens: float
    draws: float
    mib: float


def rate(lines: list[dict[str, Any]], unit: str, by_draw: bool) -> Rate | None:
    """The median of the last runs that did some of the work themselves; None where there are none.

    Args:
        by_draw: runs count that drew something, and the work is told from their draws: what a store held cost nothing.
    """
    done = [line for line in lines if line.get(unit) and (line.get("draws") or not by_draw)][-LAST:]
    if not done:
        return None

    def median(values: list[float]) -> float:
        return float(statistics.median(values))

    work = "draws" if by_draw else unit
    whole = max(line.get("draws", 0) / line[unit] for line in done)  # of a run that found nothing in the store
    scale = whole if by_draw else 1.0
    return Rate(
        median([line["startup"] for line in done]),
        scale * median([(line["seconds"] - line["startup"]) / line[work] for line in done]),
        scale * median([line.get("generated_tokens", 0) / line[work] for line in done]),
        scale * median([line.get("prompt_tokens", 0) / line[work] for line in done]),
        whole,
        median([line["mib"] for line in done]),
    )


def shares(images: pl.DataFrame, classes: pl.DataFrame) -> dict[str, float]:
    """Share of all images that each stage is about, as in the present tables."""
    rows = images.join(classes.select("dataset", "class_id", half="split"), on=["dataset", "class_id"])
    train = rows.filter(split="train", half="base").height
    test = rows.filter(split="test").height
    every = max(1, images.height)
    parts = {"download": every, "sample": train, "options": train, "filter": train, "evaluate": test, "report": test}
    return {stage: count / every for stage, count in parts.items()}


def taken() -> list[str]:
    """A table of what the last run of every stage took. Raises UserError where none is known."""
    head = ("stage", "images", "steps", "seconds", "draws", "prompt tokens", "generated", "peak MiB")
    lines = [f"{head[0]:10}" + "".join(f"{name:>15}" for name in head[1:])]
    keys = ("images", "steps", "seconds", "draws", "prompt_tokens", "generated_tokens", "mib")
    for stage in (*STAGES[:-2], "rivals", *STAGES[-2:]):
        for line in rates.kept(stage)[-1:]:
            lines.append(f"{stage:10}" + "".join(f"{line[key]:>15,}" if key in line else f"{'':15}" for key in keys))
    if len(lines) == 1:
        raise UserError(NO_RUN)
    return lines


def cost(
    images: Annotated[int, typer.Option(min=0, help="Images of the data set, all parts together; 0 asks no more.")] = 0,
    num_samples: Annotated[int, typer.Option(min=0, help="Draws per image; 0 is num_samples of params.yaml.")] = 0,
    steps: Annotated[int, typer.Option(min=0, help="Optimiser steps; 0 is train.steps of params.yaml.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Machines or servers that share the drawing.")] = 1,
) -> None:
    """Show what the last run of every stage took here, or estimate a run with so many images from the past ones.

    Every stage leaves a line in .work/rates when it ends. For an estimate images are parted as in the present tables;
    the time of a draw is taken as it was with the model and the settings of the last five runs.
    """
    if not images:
        print("\n".join(taken()))
        return
    asked = params.load(CostParams)
    k, wanted = num_samples or asked.num_samples, steps or asked.steps
    index = tables.read(tables.IMAGES, Path("data/images.parquet"), ["image_id", "dataset", "class_id", "split"])
    parts = shares(index, tables.read(tables.CLASSES, Path("data/classes.parquet")))
    lines = [
        f"{'stage':10}{'work':>18}{'seconds':>10}{'hours':>8}{'prompt tokens':>16}{'generated':>14}{'peak MiB':>10}"
    ]
    total, missing = 0.0, []
    for stage in STAGES:
        unit = "steps" if stage == "train" else "images"
        found = rate(rates.kept(stage), unit, stage in DRAWING)
        if found is None:
            missing.append(stage)
            continue
        if stage == "train":
            work, amount = f"{wanted:,} steps", float(wanted)
        elif stage == "predict":
            count = images * parts["evaluate"] + asked.val_images
            work = f"2 × {count:,.0f} images"
            # Beside the K draws there is the greedy one and what is asked about the options.
            amount = 2 * count * (found.draws - asked.num_samples + k) / found.draws
        else:
            count = images * parts[stage]
            work = f"{count:,.0f} images"
            amount = count * (k / found.draws if stage == "sample" else 1.0)
        sharing = workers if stage in DRAWING else 1
        starts = 2 if stage == "predict" else 1
        seconds = starts * found.startup + amount * found.seconds / sharing
        total += seconds
        tokens = f"{amount * found.prompt_tokens:>16,.0f}{amount * found.tokens:>14,.0f}"
        lines.append(f"{stage:10}{work:>18}{seconds:>10,.0f}{seconds / 3600:>8.2f}{tokens}{found.mib:>10,.0f}")
    if len(lines) == 1:
        raise UserError(NO_RUN)
    lines.append(f"{'together':28}{total:>10,.0f}{total / 3600:>8.2f}")
    print("\n".join(lines))
    if missing:
        print(f"never run here and so not counted: {', '.join(missing)}")
    if asked.models:
        print(f"not counted either: rivals, of {len(asked.models)} in evaluate.models, each at a rate of its own")
