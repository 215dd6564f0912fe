"""Bring the data set into one table of classes and one table of images."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline.core import tables, timings
from pipeline.core.cli import run
from pipeline.core.params import UserError, key, load_params
from pipeline.core.progress import bar
from pipeline.datasets import opened, packing
from pipeline.datasets.check import report, require_usable
from pipeline.datasets.params import DataParams
from pipeline.datasets.selection import selected, subsets
from pipeline.method import leakage


@dataclass(frozen=True)
class DownloadParams(DataParams):
    max_error_rate: float = key("max_error_rate", at_least=0, at_most=1)
    drop_leaks: bool = key("data.drop_leaks")
    hash_distance: int = key("leakage.hash_distance", at_least=-1, at_most=leakage.HASH_BITS)


def require_few_errors(images: pl.DataFrame, limit: float) -> None:
    """Raises UserError where more than `limit` of the pictures cannot be opened."""
    failed = images.filter(status="error")
    if failed.height > limit * images.height:
        file, reason = failed.select("file", "reason").row(0)
        raise UserError(
            f"download: {failed.height} of {images.height} pictures cannot be used, the first {file!r} ({reason}), "
            f"wanted at most the share max_error_rate = {limit:g}; mend or remove them, or raise max_error_rate"
        )


def counts(images: pl.DataFrame) -> str:
    """How many images each part has, in words."""
    found = dict(images["split"].value_counts().iter_rows())
    said = ", ".join(f"{found[part]:,} {part}" for part in ("train", "val", "test", "out") if part in found)
    failed = (images["status"] == "error").sum()
    return f"{said} images" + (f", {failed} of them unreadable" if failed else "")


def main(
    classes: Annotated[Path, typer.Option(help="Table of classes to write.")] = Path("data/classes.parquet"),
    images: Annotated[Path, typer.Option(help="Table of images to write.")] = Path("data/images.parquet"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; say what is there and what will give trouble.")
    ] = False,
) -> None:
    """Bring the data set into one table of classes and one table of images."""
    wanted = load_params(DownloadParams)
    with ExitStack() as stack:
        sources = [stack.enter_context(opened(name, wanted)) for name in wanted.dataset]
        spool = stack.enter_context(packing.Spool(images.parent))
        parts = []
        for source in sources:
            print(source.licence)
            rows = selected(source, wanted)
            with bar(f"{source.name}: images", rows.height, "images") as advance:
                parts.append(packing.ingest_pictures(source, rows, wanted.max_pixels, spool, advance))
            print(f"{source.name}: {len(source.names)} classes, {counts(parts[-1])}")
        image_rows = packing.identified(pl.concat(parts))
        own = {source.name: image_rows.filter(dataset=source.name) for source in sources}
        if check:  # of every data set, before the first of them fails
            for source in sources:
                print("\n".join(report(source, subsets(source, wanted), own[source.name], wanted.hash_distance)))
        for source in sources:
            require_usable(source, subsets(source, wanted), own[source.name])
        require_few_errors(image_rows, wanted.max_error_rate)
        if wanted.drop_leaks:
            image_rows = leakage.without_leaks(image_rows, wanted.hash_distance)
            print(f"left out since a test image shows the same: {image_rows.filter(split='out').height} images")
        if check:
            leakage.require_apart(image_rows, wanted.hash_distance)
            print("nothing here stops a run; `dvc repro` starts one")
            return
        packing.write(image_rows, spool, images)
    class_rows = pl.concat(packing.classes(source, subsets(source, wanted)) for source in sources)
    tables.write(tables.CLASSES, class_rows, classes)
    timings.record(images=image_rows.height)


if __name__ == "__main__":
    run(main, DownloadParams)
