"""Bring the data set into one table of classes and one table of images."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline.core import tables, timings
from pipeline.core.cli import run
from pipeline.core.model_language import model_faults
from pipeline.core.params import key, load_params
from pipeline.core.progress import bar
from pipeline.core.terminal import printable
from pipeline.core.words import counted
from pipeline.datasets import copies, open_dataset, packing
from pipeline.datasets.check import count_line, report, require_few_errors, require_usable
from pipeline.datasets.missing import available_images
from pipeline.datasets.params import DataParams
from pipeline.datasets.selection import subsets
from pipeline.method import leakage


@dataclass(frozen=True)
class DownloadParams(DataParams):
    max_error_rate: float = key("max_error_rate", at_least=0, at_most=1)
    drop_leaks: bool = key("data.drop_leaks")
    hash_distance: int = key("leakage.hash_distance", at_least=-1, at_most=copies.HASH_BITS)


def main(
    classes: Annotated[Path, typer.Option(help="Table of classes to write.")] = Path("data/classes.parquet"),
    images: Annotated[Path, typer.Option(help="Table of images to write.")] = Path("data/images.parquet"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; print what is there and what will cause trouble.")
    ] = False,
) -> None:
    """Bring the data set into one table of classes and one table of images."""
    params = load_params(DownloadParams)
    with ExitStack() as stack:
        sources = [stack.enter_context(open_dataset(name, params)) for name in params.dataset]
        spool = stack.enter_context(packing.Spool(images.parent))
        selections = [available_images(source, params) for source in sources]
        # What `sample` would say of the model, now and not after hours of reading pictures.
        errors = [error for _, error in selections if error] + model_faults({one.name: one.names for one in sources})
        if errors and not check:
            raise errors[0]
        parts = []
        for source, (rows, _) in zip(sources, selections, strict=True):
            print(printable(source.licence))
            with bar(f"{source.name}: images", rows.height, "images") as advance:
                parts.append(packing.ingest_pictures(source, rows, params.max_pixels, spool, advance))
            print(f"{source.name}: {len(source.names)} classes, {count_line(parts[-1])}")
        image_rows = copies.with_copies(packing.with_ids(pl.concat(parts)), spool.get, params.hash_distance)
        class_rows = pl.concat(packing.classes(source, subsets(source, params)) for source in sources)
        rows_of = {source.name: image_rows.filter(dataset=source.name) for source in sources}
        if check:  # of every data set, before the first of them fails
            for source in sources:
                lines = report(source, subsets(source, params), rows_of[source.name], params.shots)
                print(printable("\n".join(lines)))
        if errors:
            raise errors[0]
        for source in sources:
            require_usable(source, subsets(source, params), rows_of[source.name], params)
        require_few_errors(image_rows, params.max_error_rate)
        if params.drop_leaks:
            image_rows = leakage.without_leaks(image_rows)
            dropped = counted(image_rows.filter(split="out").height, "image")
            print(f"dropped because a test image shows the same: {dropped}")
        leakage.require_apart(image_rows, class_rows)  # now, not when everything has been drawn
        if check:
            print("nothing here stops a run; `dvc repro` starts one")
            return
        packing.write(image_rows, spool, images)
    tables.write(tables.CLASSES, class_rows, classes)
    timings.record(images=image_rows.height)


if __name__ == "__main__":
    run(main, DownloadParams)
