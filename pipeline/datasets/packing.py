"""Packs pictures into the table of images: read, checked and hashed on all cores, in little memory."""

import hashlib
import os
import tempfile
import warnings
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import polars as pl

from pipeline.core import tables
from pipeline.core.pictures import PictureError
from pipeline.core.progress import Advance
from pipeline.core.schemas import CLASSES, IMAGES
from pipeline.datasets.copies import with_copies
from pipeline.datasets.ingest import MOST_PIXELS, IngestedPicture, ingest
from pipeline.datasets.source import Source

WINDOW = 8  # pictures under way per core: what is held in memory


class Spool:
    """Bytes on their way into the table, on disk. The file has no name: it ends with the process."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 – closed by __exit__
        self._places: list[tuple[int, int]] = []

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, content: bytes) -> int:
        """Keeps `content` and gives its number, from 0."""
        self._places.append((self._file.seek(0, os.SEEK_END), len(content)))
        self._file.write(content)
        return len(self._places) - 1

    def size(self, number: int) -> int:
        return self._places[number][1]

    def get(self, number: int) -> bytes:
        place, size = self._places[number]
        self._file.seek(place)
        return self._file.read(size)


def ingest_pictures(
    source: Source, rows: pl.DataFrame, max_pixels: int, spool: Spool, advance: Advance
) -> pl.DataFrame:
    """The pictures of `rows`, in `spool`, and what the table of images says of them.

    Returns:
        A row an image: the columns of the table without image_id, copies and image, and the numbers in `spool` of its
        bytes (`number`) and of its thumbnail (`thumbnail`, null where it cannot be read).
    """
    about = {path: (class_id, split) for path, class_id, split in rows.select("path", "class_id", "split").iter_rows()}
    ingested: list[dict[str, Any]] = []

    def add_row(path: str, content: str, picture: IngestedPicture | PictureError) -> None:
        class_id, split = about[path]
        row: dict[str, Any] = {"dataset": source.name, "class_id": class_id, "split": split, "file": path}
        if isinstance(picture, PictureError):
            row |= {"status": "error", "reason": str(picture), "content": content, "number": spool.add(b"")}
        else:
            row |= {"status": "ok", "content": content, "perceptual_hash": picture.perceptual_hash}
            row |= {"width": picture.width, "height": picture.height}
            row |= {"number": spool.add(picture.image), "thumbnail": spool.add(picture.thumbnail)}
        ingested.append(row)
        advance()

    def prepare(path: str, file: bytes) -> tuple[str, str, IngestedPicture | PictureError]:
        try:
            picture = ingest(file, max_pixels, source.crop_bottom)
        except PictureError as error:
            return path, _hash(file), error
        return path, _hash(picture.image), picture

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pending: deque[Future[tuple[str, str, IngestedPicture | PictureError]]] = deque()
    with warnings.catch_warnings(), ThreadPoolExecutor(cores) as pool:
        warnings.simplefilter("ignore")  # of sizes that the intake allows, and of odd metadata
        try:
            for path, file in source.pictures(about.keys()):
                pending.append(pool.submit(prepare, path, file))
                if len(pending) >= WINDOW * cores:
                    add_row(*pending.popleft().result())
            while pending:
                add_row(*pending.popleft().result())
        finally:
            pool.shutdown(cancel_futures=True)
    columns = {name: kind for name, kind in IMAGES.schema.items() if name not in ("image_id", "copies", "image")}
    return pl.DataFrame(ingested, schema=columns | {"number": pl.Int64, "thumbnail": pl.Int64})


def classes(source: Source, subsets: Sequence[str]) -> pl.DataFrame:
    """The table of classes of one data set.

    Args:
        subsets: base or novel, by class.
    """
    rows = [
        {
            "dataset": source.name,
            "class_id": class_id,
            "name": name,
            "subset": subset,
            "aliases": list(source.aliases.get(name, ())),
            "noun": source.noun,
            "group": source.groups[class_id] if source.groups else None,
        }
        for class_id, (name, subset) in enumerate(zip(source.names, subsets, strict=True))
    ]
    return pl.DataFrame(rows, schema=CLASSES.schema)


def with_ids(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` with image_id: the content, and for its second, third … occurrence a hash of content and number."""
    ordered = rows.sort("content", "dataset", "file")
    times = ordered.select(pl.int_range(pl.len()).over("content")).to_series()
    ids = [
        content if time == 0 else _hash(f"{content}/{time}".encode())
        for content, time in zip(ordered["content"], times, strict=True)
    ]
    return ordered.insert_column(0, pl.Series("image_id", ids, pl.String))


def write(rows: pl.DataFrame, spool: Spool, path: Path) -> None:
    """Writes the table of images from the rows of `copies.with_copies`, group by group."""
    sizes = pl.Series([spool.size(number) for number in rows["number"]], dtype=pl.Int64)
    numbers = rows["number"].to_list()
    tables.write_by_rows(
        IMAGES, rows.drop("number", "thumbnail"), "image", sizes, lambda row: spool.get(numbers[row]), path
    )


def in_memory(source: Source, distance: int) -> pl.DataFrame:
    """The table of images of a small source, unlimited; `distance` as in `copies.with_copies`."""
    with Spool(Path(tempfile.gettempdir())) as spool:
        rows = with_ids(ingest_pictures(source, source.rows, MOST_PIXELS, spool, lambda: None))
        rows = with_copies(rows, spool.get, distance)
        images = pl.Series("image", [spool.get(number) for number in rows["number"]], pl.Binary)
    return rows.with_columns(images).select(IMAGES.schema.names()).sort(IMAGES.key)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
