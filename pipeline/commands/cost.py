"""Estimate the hours and tokens of a run from what past runs took."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from pipeline.core import tables, timings
from pipeline.core.params import UserError, key, load_params
from pipeline.evaluation import metrics

STAGES = ("download", "sample", "options", "filter", "train", "predict", "evaluate", "report")
LAST = 5  # runs of a stage that count
NO_RUN = "no past run is known in .work/rates; `dvc repro` makes one, with any number of images"
DRAWING = ("sample", "predict")  # what several workers share
PREDICTIONS = [Path(f"data/predictions/{name}.parquet") for name in ("base", "trained")]


@dataclass(frozen=True)
class CostParams:
    num_samples: int = key("num_samples", at_least=1)
    topk: int = key("topk", at_least=2)
    orders: int = key("predict.orders", at_least=1)
    steps: int = key("train.steps", at_least=1)
    val_images: int = key("predict.val_images", at_least=0)
    models: tuple[str, ...] = key("evaluate.models")


@dataclass(frozen=True)
class Rate:
    """What a stage takes: seconds whatever the work, and seconds and tokens for each unit of it; peak MiB."""

    startup: float
    seconds: float
    tokens: float
    prompt_tokens: float
    mib: float


def rate(lines: list[dict[str, Any]], unit: str) -> Rate | None:
    """The median of the last runs that did some of the work themselves, each as heavy as its work; None without any.

    Args:
        unit: images, steps or draws. Of draws those count that were drawn: what a store held cost nothing. A run that
            drew less than one answer for each image mostly read the store, and its seconds say little of a draw.
    """
    done = [line for line in lines if line.get(unit)]
    if unit == "draws":
        done = [line for line in done if line["draws"] >= line.get("images", 0)] or done
    done = done[-LAST:]
    if not done:
        return None
    work = [float(line[unit]) for line in done]

    def median(values: list[float]) -> float:
        return weighted_median(values, work)

    return Rate(
        median([line["startup"] for line in done]),
        median([(line["seconds"] - line["startup"]) / line[unit] for line in done]),
        median([line.get("generated_tokens", 0) / line[unit] for line in done]),
        median([line.get("prompt_tokens", 0) / line[unit] for line in done]),
        median([line["mib"] for line in done]),
    )


def weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The value below and above which half of the weight lies; between two of them their mean."""
    pairs, subset, below = sorted(zip(values, weights, strict=True)), sum(weights) / 2, 0.0
    for place, (value, weight) in enumerate(pairs):
        below += weight
        if below == subset:
            return (value + pairs[place + 1][0]) / 2
        if below > subset:
            return value
    raise ValueError("no values with a weight above 0")


def completions(asked: CostParams, k: int, answered: pl.DataFrame | None) -> float:
    """Completions that predict asks for an image with K = `k`: the draws, the greedy answer, the choices.

    Args:
        answered: rows of the present predictions, which tell how many options there are to choose among and how many
            draws an early stop leaves; without them as many as the settings allow.
    """
    if answered is None or not answered.height:
        return k + 1 + min(asked.orders, asked.topk)
    drawn, most = answered["draws"].list.len(), metrics.draws_per_image(answered)
    choices = answered.select((pl.col("choice_text").is_not_null() + pl.col("rotated").list.len()).mean()).item()
    return float(k * (drawn.sum() / (answered.height * most) if most else 1.0) + 1 + choices)


def present() -> pl.DataFrame | None:
    """What the present tables of predictions say of the number of completions; None where there are none."""
    columns = ["draws", "choice_text", "rotated"]
    found = [tables.read(tables.PREDICTIONS, path, columns) for path in PREDICTIONS if path.is_file()]
    return pl.concat(found) if found else None


def shares(images: pl.DataFrame, classes: pl.DataFrame) -> dict[str, float]:
    """Share of all images that each stage is about, as in the present tables."""
    rows = images.join(classes.select("dataset", "class_id", "subset"), on=["dataset", "class_id"])
    train = rows.filter(split="train", subset="base").height
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
        for line in timings.load(stage)[-1:]:
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
    the time of a draw is taken as it was with the model and the settings of the last five runs that drew at least one
    answer for each image themselves.
    """
    if not images:
        print("\n".join(taken()))
        return
    asked = load_params(CostParams)
    k, wanted = num_samples or asked.num_samples, steps or asked.steps
    index = tables.read(tables.IMAGES, Path("data/images.parquet"), ["image_id", "dataset", "class_id", "split"])
    parts = shares(index, tables.read(tables.CLASSES, Path("data/classes.parquet")))
    lines = [
        f"{'stage':10}{'work':>18}{'seconds':>10}{'hours':>8}{'prompt tokens':>16}{'generated':>14}{'peak MiB':>10}"
    ]
    total, missing = 0.0, []
    for stage in STAGES:
        unit = "steps" if stage == "train" else "draws" if stage in DRAWING else "images"
        found = rate(timings.load(stage), unit)
        if found is None:
            missing.append(stage)
            continue
        if stage == "train":
            work, amount = f"{wanted:,} steps", float(wanted)
        elif stage == "predict":
            count = images * parts["evaluate"] + asked.val_images
            work = f"2 × {count:,.0f} images"
            amount = 2 * count * completions(asked, k, present())
        else:
            count = images * parts[stage]
            work = f"{count:,.0f} images"
            amount = count * (k if stage == "sample" else 1)
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
