"""Show what past runs took, or estimate the hours and tokens of a future one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline.commands.run_estimate import (
    RECORDED,
    CostParams,
    StageCost,
    completions,
    estimates,
    image_shares,
    planned_work,
)
from pipeline.core import tables, timings
from pipeline.core.params import UserError, load_params

NO_RUN = "there are no timings of past runs; `dvc repro` records them, with any number of images"
PREDICTIONS = [Path(f"data/predictions/{name}.parquet") for name in ("base", "trained")]


def past_predictions() -> pl.DataFrame | None:
    """The columns of the last run's predictions that the number of completions depends on; None without tables."""
    columns = ["draws", "choice_text", "rotated"]
    parts = [tables.read(tables.PREDICTIONS, path, columns) for path in PREDICTIONS if path.is_file()]
    return pl.concat(parts) if parts else None


def past_lines() -> list[str]:
    """A table of what the last run of every stage took. Raises UserError where there are no timings."""
    head = ("stage", "images", "steps", "seconds", "draws", "prompt tokens", "generated", "peak MiB", "draws by")
    keys = ("images", "steps", "seconds", "draws", "prompt_tokens", "generated_tokens", "mib", "way")
    lines = [f"{head[0]:10}" + "".join(f"{name:>15}" for name in head[1:])]
    for stage in RECORDED:
        for line in timings.load(stage)[-1:]:
            lines.append(f"{stage:10}" + "".join(f"{_cell(line.get(key, '')):>15}" for key in keys).rstrip())
    if len(lines) == 1:
        raise UserError(NO_RUN)
    return lines


def _cell(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"


def estimate_lines(costs: Sequence[StageCost]) -> list[str]:
    """A table of what every stage would take, and their sum."""
    lines = [
        f"{'stage':10}{'work':>18}{'seconds':>10}{'hours':>8}{'prompt tokens':>16}{'generated':>14}{'peak MiB':>10}"
    ]
    for one in costs:
        tokens = f"{one.prompt_tokens:>16,.0f}{one.tokens:>14,.0f}"
        time = f"{one.seconds:>10,.0f}{one.seconds / 3600:>8.2f}"
        lines.append(f"{one.stage:10}{one.work:>18}{time}{tokens}{one.mib:>10,.0f}")
    total = sum(one.seconds for one in costs)
    return [*lines, f"{'total':28}{total:>10,.0f}{total / 3600:>8.2f}"]


def cost(
    images: Annotated[
        int, typer.Option(min=0, help="Images of the data set, all splits together; 0 shows past runs.")
    ] = 0,
    num_samples: Annotated[int, typer.Option(min=0, help="Draws per image; 0 is num_samples of params.yaml.")] = 0,
    steps: Annotated[int, typer.Option(min=0, help="Optimiser steps; 0 is train.steps of params.yaml.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Machines or servers that share the drawing.")] = 1,
) -> None:
    """Show what the last run of every stage took here, or estimate a run with so many images from past runs.

    Every stage records its timings in .work when it ends. An estimate splits the images as in the tables of the last
    run. The time per draw is that of the last five runs that drew at least once per image, with their model and
    settings.
    """
    if not images:
        print("\n".join(past_lines()))
        return
    params = load_params(CostParams)
    k = num_samples or params.num_samples
    index = tables.read(tables.IMAGES, Path("data/images.parquet"), ["image_id", "dataset", "class_id", "split"])
    shares = image_shares(index, tables.read(tables.CLASSES, Path("data/classes.parquet")))
    per_image = completions(params, k, past_predictions())
    work = planned_work(params, images, k, steps or params.steps, shares, per_image)
    costs, missing = estimates(work, timings.load, workers)
    if not costs:
        raise UserError(NO_RUN)
    print("\n".join(estimate_lines(costs)))
    if missing:
        print(f"not included, as no past run was recorded: {', '.join(missing)}")
    if params.models:
        print(f"not included: baselines; each of the {len(params.models)} in evaluate.models has a rate of its own")
