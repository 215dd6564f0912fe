"""Seconds, tokens and memory of a future run, estimated from what past runs took."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from pipeline.core.params import MOST_DRAWS, key
from pipeline.evaluation.metrics import draws_per_image

RECORDED = ("download", "sample", "options", "filter", "train", "predict", "baselines", "evaluate", "report")
STAGES = tuple(stage for stage in RECORDED if stage != "baselines")  # those that can be estimated
DRAWING = ("sample", "predict")  # stages whose draws several workers share
LAST = 5  # runs of a stage that count


@dataclass(frozen=True)
class CostParams:
    num_samples: int = key("num_samples", at_least=1, at_most=MOST_DRAWS)
    topk: int = key("topk", at_least=2)
    orders: int = key("predict.orders", at_least=1)
    steps: int = key("train.steps", at_least=1)
    val_images: int = key("predict.val_images", at_least=0)
    models: tuple[str, ...] = key("evaluate.models")


@dataclass(frozen=True)
class Rate:
    """What a stage takes: seconds to start, then seconds and tokens for each unit of its work; peak MiB."""

    startup: float
    seconds: float
    tokens: float
    prompt_tokens: float
    mib: float


@dataclass(frozen=True)
class Work:
    """What a stage has to do.

    Attributes:
        units: images, draws or optimiser steps.
        text: what the table calls it.
        starts: processes, each of which takes the time to start.
    """

    units: float
    text: str
    starts: int = 1


@dataclass(frozen=True)
class StageCost:
    """What a stage of a future run would take."""

    stage: str
    work: str
    seconds: float
    prompt_tokens: float
    tokens: float
    mib: float


def rate(lines: list[dict[str, Any]], unit: str) -> Rate | None:
    """The medians of the last runs that did work, each weighted by its work; None without any.

    Args:
        lines: of `timings.load`, oldest first.
        unit: images, steps or draws. Of draws only the new ones count, since those from the draw cache take no time. A
            run with less than one new draw per image spent its time on reading the cache, and counts only where there
            is no other.
    """
    runs = [line for line in lines if line.get(unit)]
    if unit == "draws":
        runs = [line for line in runs if line["draws"] >= line.get("images", 0)] or runs
    runs = runs[-LAST:]
    if not runs:
        return None
    work = [float(line[unit]) for line in runs]

    def median(values: list[float]) -> float:
        return weighted_median(values, work)

    return Rate(
        median([line["startup"] for line in runs]),
        median([(line["seconds"] - line["startup"]) / line[unit] for line in runs]),
        median([line.get("generated_tokens", 0) / line[unit] for line in runs]),
        median([line.get("prompt_tokens", 0) / line[unit] for line in runs]),
        median([line["mib"] for line in runs]),
    )


def weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The value with half of the weight below and half above it; the mean of two such values."""
    pairs, middle, below = sorted(zip(values, weights, strict=True)), sum(weights) / 2, 0.0
    for place, (value, weight) in enumerate(pairs):
        below += weight
        if below == middle:
            return (value + pairs[place + 1][0]) / 2
        if below > middle:
            return value
    raise ValueError("no value has a weight above 0")


def completions(params: CostParams, k: int, predictions: pl.DataFrame | None) -> float:
    """Completions for each image of predict with K = `k`: the draws, the greedy answer, the choices.

    Args:
        predictions: rows of a past run, for the mean number of options and the share of draws that an early stop
            leaves; without them as many of both as the settings allow.
    """
    if predictions is None or not predictions.height:
        return k + 1 + min(params.orders, params.topk)
    draws, most = predictions["draws"].list.len().sum(), draws_per_image(predictions)
    choices = predictions.select((pl.col("choice_text").is_not_null() + pl.col("rotated").list.len()).mean()).item()
    return float(k * (draws / (predictions.height * most) if most else 1.0) + 1 + choices)


def image_shares(images: pl.DataFrame, classes: pl.DataFrame) -> dict[str, float]:
    """The share of a data set's images that each stage works on, counted in the tables of a past run."""
    rows = images.join(classes.select("dataset", "class_id", "subset"), on=["dataset", "class_id"])
    train = rows.filter(split="train", subset="base").height
    test = rows.filter(split="test").height
    every = max(1, images.height)
    counts = {"download": every, "sample": train, "options": train, "filter": train}
    counts |= {stage: test for stage in ("predict", "evaluate", "report")}
    return {stage: count / every for stage, count in counts.items()}


def planned_work(
    params: CostParams, images: int, k: int, steps: int, shares: Mapping[str, float], per_image: float
) -> dict[str, Work]:
    """What each stage has to do for a data set of so many images.

    Args:
        shares: of `image_shares`.
        per_image: of `completions`.
    """
    work = {}
    for stage in STAGES:
        if stage == "train":
            work[stage] = Work(float(steps), f"{steps:,} steps")
            continue
        count = images * shares[stage]
        if stage == "predict":  # by the base model and by the trained one
            count += params.val_images
            work[stage] = Work(2 * count * per_image, f"2 × {count:,.0f} images", starts=2)
        else:
            work[stage] = Work(count * (k if stage == "sample" else 1), f"{count:,.0f} images")
    return work


def estimate(stage: str, work: Work, rate: Rate, workers: int) -> StageCost:
    """What a stage takes at this rate, its draws shared by so many workers."""
    sharing = workers if stage in DRAWING else 1
    seconds = work.starts * rate.startup + work.units * rate.seconds / sharing
    return StageCost(stage, work.text, seconds, work.units * rate.prompt_tokens, work.units * rate.tokens, rate.mib)


def estimates(
    work: Mapping[str, Work], lines_of: Callable[[str], list[dict[str, Any]]], workers: int
) -> tuple[list[StageCost], list[str]]:
    """What every stage takes, and the stages without a rate.

    Args:
        lines_of: the recorded lines of a stage, oldest first.
        workers: that share the draws.
    """
    rates = {stage: rate(lines_of(stage), unit_of(stage)) for stage in STAGES}
    costs = [estimate(stage, work[stage], own, workers) for stage, own in rates.items() if own is not None]
    return costs, [stage for stage, own in rates.items() if own is None]


def unit_of(stage: str) -> str:
    """What the work of a stage is counted in."""
    return "steps" if stage == "train" else "draws" if stage in DRAWING else "images"
