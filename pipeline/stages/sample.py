"""Ask the base model K times what each training image of the base classes shows.

Departures from the paper:
1. The seed belongs to the image and the draw, not to the worker: batch size and order change nothing but rounding.
2. A draw that fails or names no class keeps its row, with a status.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline.core import tables, timings
from pipeline.core.cli import run
from pipeline.core.model_language import require_names_for, require_prompt_for
from pipeline.core.params import key, load_params
from pipeline.core.words import counted
from pipeline.engines.params import EngineParams
from pipeline.method.image_sets import training_images
from pipeline.method.sampling import SamplingParams, draw_samples


@dataclass(frozen=True)
class SampleParams(SamplingParams, EngineParams):
    model: str = key("model")


def main(
    images: Annotated[Path, typer.Option(help="Table of images.")] = Path("data/images.parquet"),
    classes: Annotated[Path, typer.Option(help="Table of classes.")] = Path("data/classes.parquet"),
    samples: Annotated[Path, typer.Option(help="Table of samples to write.")] = Path("data/samples.parquet"),
    forget: Annotated[
        bool, typer.Option("--forget", help="Only delete the cached draws of this model and settings, test images too.")
    ] = False,
) -> None:
    """Ask the base model K times what each training image of the base classes shows."""
    params = load_params(SampleParams)
    require_prompt_for(params.model, params.prompt)
    if forget:
        with params.connect(params.model, [params.sampler()]) as engine:
            print(f"{counted(engine.cache(params.sampler()).clear(), 'draw')} deleted")
        return
    class_rows = tables.read(tables.CLASSES, classes)
    for (dataset,), rows in class_rows.group_by("dataset", maintain_order=True):
        require_names_for(params.model, dataset, rows["name"])
    rows = training_images(tables.read(tables.IMAGES, images, where=pl.col("split") == "train"), class_rows)
    with params.connect(params.model, [params.sampler()]) as engine:
        drawn = draw_samples(engine, rows, class_rows, params)
    tables.write(tables.SAMPLES, drawn, samples)
    timings.record(images=rows.height)
    valid = (drawn["status"] == "ok").sum()
    print(
        f"{rows.height} images × {params.num_samples} draws ({engine.counts()}); "
        f"{valid / drawn.height:.1%} name a class of the list"
    )


if __name__ == "__main__":
    run(main, SampleParams)
