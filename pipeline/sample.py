"""Ask the base model K times what each training image of the base classes shows.

Departures from the paper:
1. The seed belongs to the image and the draw, not to the worker: batch size and order change nothing but rounding.
2. A draw that fails or names no class keeps its row, with a status.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline import params, rates, tables
from pipeline.asking import AskParams, ClassLists, progress, require_few_errors
from pipeline.cli import run
from pipeline.engines import Engine, Request
from pipeline.engines.settings import EngineParams


@dataclass(frozen=True)
class SampleParams(AskParams, EngineParams):
    model: str = params.key("model")


def training_images(images: pl.DataFrame, classes: pl.DataFrame) -> pl.DataFrame:
    """The training images of the base classes: the only ones that training may see."""
    base = classes.filter(pl.col("split") == "base").select("dataset", "class_id")
    return images.filter(pl.col("split") == "train").join(base, on=["dataset", "class_id"], maintain_order="left")


def draw_samples(engine: Engine, images: pl.DataFrame, classes: pl.DataFrame, asked: AskParams) -> pl.DataFrame:
    """Table of samples: K draws for every image, each read against the base class list.

    Raises UserError where too many of them failed.
    """
    lists = ClassLists(classes)
    dataset_of = dict(images.select("image_id", "dataset").iter_rows())
    questions = {dataset: lists.question(dataset, "base", asked) for dataset in dataset_of.values()}
    numbers = range(asked.num_samples)
    wanted = [
        Request(image_id, image, questions[dataset], numbers)
        for image_id, image, dataset in images["image_id", "image", "dataset"].iter_rows()
    ]
    keys, readings = [], []
    with progress("draws", len(wanted) * len(numbers)) as tell:
        for batch in engine.draw(wanted, asked.sampler()):
            keys += [{"image_id": done.image_id, "draw": done.draw} for done in batch]
            read = [lists.read(done, dataset_of[done.image_id], "base") for done in batch]
            readings += read
            tell(read)
    require_few_errors(readings, asked.max_error_rate, "sample")
    rows = [key | asdict(reading) for key, reading in zip(keys, readings, strict=True)]
    return pl.DataFrame(rows, schema=tables.SAMPLES.schema)


def main(
    images: Annotated[Path, typer.Option(help="Table of images.")] = Path("data/images.parquet"),
    classes: Annotated[Path, typer.Option(help="Table of classes.")] = Path("data/classes.parquet"),
    samples: Annotated[Path, typer.Option(help="Table of samples to write.")] = Path("data/samples.parquet"),
    forget: Annotated[
        bool, typer.Option("--forget", help="Only forget what this model drew with these settings, test images too.")
    ] = False,
) -> None:
    """Ask the base model K times what each training image of the base classes shows."""
    asked = params.load(SampleParams)
    engine = asked.connect(asked.model)
    if forget:
        print(f"{engine.shelf(asked.sampler()).forget():,} draws forgotten")
        return
    class_rows = tables.read(tables.CLASSES, classes)
    image_rows = training_images(tables.read(tables.IMAGES, images, where=pl.col("split") == "train"), class_rows)
    drawn = draw_samples(engine, image_rows, class_rows, asked)
    tables.write(tables.SAMPLES, drawn, samples)
    rates.note(images=image_rows.height)
    valid = (drawn["status"] == "ok").sum()
    print(
        f"{image_rows.height} images × {asked.num_samples} draws ({engine.counts()}); "
        f"{valid / drawn.height:.1%} name a class of the list"
    )


if __name__ == "__main__":
    run(main, SampleParams)
