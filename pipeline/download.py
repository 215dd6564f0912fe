"""Bring the data set into one table of classes and one table of images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from pipeline import params, tables
from pipeline.cli import run
from pipeline.datasets import DATASETS


@dataclass(frozen=True)
class DownloadParams:
    dataset: str = params.key("dataset", one_of=tuple(DATASETS))
    train_per_class: int = params.key("data.train_per_class", at_least=1)
    val_per_class: int = params.key("data.val_per_class", at_least=1)
    test_per_class: int = params.key("data.test_per_class", at_least=1)


def main(
    classes: Annotated[Path, typer.Option(help="Table of classes to write.")] = Path("data/classes.parquet"),
    images: Annotated[Path, typer.Option(help="Table of images to write.")] = Path("data/images.parquet"),
) -> None:
    """Bring the data set into one table of classes and one table of images."""
    wanted = params.load(DownloadParams)
    class_rows, image_rows = DATASETS[wanted.dataset](wanted)
    tables.write(tables.CLASSES, class_rows, classes)
    tables.write(tables.IMAGES, image_rows, images)
    counts = image_rows["split"].value_counts().rows()
    print(
        f"{wanted.dataset}: {class_rows.height} classes, "
        + ", ".join(f"{count} {split}" for split, count in sorted(counts))
        + " images"
    )


if __name__ == "__main__":
    run(main)
