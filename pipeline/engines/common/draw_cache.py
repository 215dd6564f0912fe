"""The draw cache: no draw is made twice, and an interrupted run continues where it stopped.

A cache is a folder for one engine, model and sampler. It holds Parquet shards, which are only ever added. A shard is
named by the hash of its bytes, so that damage is detected and concurrent runs do not interfere.
"""

import hashlib
import io
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path

import polars as pl

from pipeline.core import timings
from pipeline.core.engine import Completion, Engine, FingerprintError, Request, Sampler
from pipeline.core.files import whole_file, work_folder, write_text
from pipeline.core.words import counted

VERSION = 2  # of the shards' columns and of the text that a cache is named after

KEY = ("image_id", "question", "draw")
SCHEMA = pl.Schema(
    {
        "image_id": pl.String,
        "question": pl.String,
        "draw": pl.Int64,
        "text": pl.String,
        "tokens": pl.Int64,
        "finished": pl.Boolean,
        "probability": pl.Float64,
    }
)


def draw_cache_folder() -> Path:
    """The folder of all draw caches."""
    return work_folder("draws")


class DrawCache:
    """The draws of one engine, model and sampler.

    Args:
        folder: of all caches.
        about: what the draws depend on besides image, question and number.
    """

    def __init__(self, folder: Path, about: dict[str, object]):
        text = json.dumps({"store": VERSION, **about}, indent=1, sort_keys=True)
        self.folder = folder / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.about = text

    def read(self) -> pl.DataFrame:
        """All draws, each once. A damaged shard is reported and renamed; its draws are made again."""
        for partial in self.folder.glob(".*.partial"):  # of a run that was killed as it wrote
            with suppress(FileNotFoundError):  # another run's, finished just now
                if time.time() - partial.stat().st_mtime > 3600:
                    partial.unlink()
        return _rows(self.folder)

    def add(self, rows: pl.DataFrame) -> None:
        """Adds draws, all or none of them."""
        content = io.BytesIO()
        rows.write_parquet(content, compression="zstd")
        if not (self.folder / "about.json").is_file():
            write_text(self.folder / "about.json", self.about)
        with whole_file(self.folder / f"{_hash(content.getvalue())}.parquet") as partial:
            partial.write_bytes(content.getvalue())

    def clear(self) -> int:
        """Deletes all draws, and returns their number."""
        count = self.read().height
        for path in self.folder.glob("*.parquet"):
            path.unlink(missing_ok=True)
        return count


def _rows(folder: Path) -> pl.DataFrame:
    shards = [_read_shard(path) for path in sorted(folder.glob("*.parquet"))]
    readable = [shard for shard in shards if shard is not None]
    # Concurrent runs may both hold a draw, equal up to rounding: every read takes the same one.
    return pl.concat([SCHEMA.to_frame(), *readable]).unique(KEY, keep="first", maintain_order=True)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _read_shard(path: Path) -> pl.DataFrame | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:  # deleted by another run just now
        return None
    with suppress(pl.exceptions.PolarsError, pl.exceptions.PanicException):
        if _hash(content) == path.stem and (rows := pl.read_parquet(content)).schema == SCHEMA:
            return rows
    damaged = path.rename(path.with_suffix(".damaged"))
    print(f"{path}: damaged, renamed to {damaged.name}; its draws will be made again", file=sys.stderr)
    return None


class CachingEngine:
    """An engine with a draw cache in front of it: only draws that are not in the cache are made.

    Args:
        engine: makes the draws.
        folder: of all caches.
    """

    def __init__(self, engine: Engine, folder: Path):
        self.engine, self.folder = engine, folder
        self.hits, self.misses = 0, 0
        self._rows_of: dict[Path, pl.DataFrame] = {}

    def fingerprint(self) -> dict[str, str]:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> dict[str, str]:
        # Computed once: it reads all of the model's weights, and `predict` draws block by block.
        return self.engine.fingerprint()

    def cache(self, sampler: Sampler) -> DrawCache:
        return DrawCache(self.folder, {"engine": self.fingerprint(), "sampler": asdict(sampler)})

    def draw(self, requests: Sequence[Request], sampler: Sampler) -> Iterator[list[Completion]]:
        cache = self.cache(sampler)
        if cache.folder not in self._rows_of:
            self._rows_of[cache.folder] = cache.read()
        keys = pl.DataFrame(
            [(request.image_id, request.prompt, draw) for request in requests for draw in request.draws],
            schema={name: SCHEMA[name] for name in KEY},
            orient="row",
        )
        hits = self._rows_of[cache.folder].join(keys, on=KEY, how="semi")
        hit_keys = set(hits.select(KEY).iter_rows())
        misses = [replace(request, draws=_misses(request, hit_keys)) for request in requests]
        batches = self.engine.draw([request for request in misses if request.draws], sampler)
        try:
            first = list(islice(batches, 1))  # before any hit is used: the engine may have changed since it was drawn
        except FingerprintError:
            if self.hits or self.misses:
                raise
            del self._fingerprint
            yield from self.draw(requests, sampler)
            return
        self.hits += hits.height
        if hits.height:
            columns = hits.select("image_id", "draw", "text", "tokens", "finished", "probability")
            yield [Completion(**row) for row in columns.iter_rows(named=True)]
        question_of = {request.image_id: request.prompt for request in requests}
        for batch in chain(first, batches):
            # Failures are not cached: the next run tries again.
            rows = [
                (
                    *(one.image_id, question_of[one.image_id], one.draw),
                    *(one.text, one.tokens, one.finished, one.probability),
                )
                for one in batch
                if one.error is None
            ]
            if rows:
                cache.add(pl.DataFrame(rows, schema=SCHEMA, orient="row"))
            self.misses += len(batch)
            timings.record(draws=len(batch), generated_tokens=sum(one.tokens for one in batch))
            yield batch

    def __enter__(self) -> "CachingEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.engine.close()

    def read_again(self) -> None:
        """Reads the caches anew at the next draw: what this engine has drawn itself is then among the hits."""
        self._rows_of.clear()

    def counts(self) -> str:
        return f"{counted(self.misses, 'new draw')}, {self.hits:,} from the draw cache"


def _misses(request: Request, hit_keys: set[tuple[object, ...]]) -> list[int]:
    return [draw for draw in request.draws if (request.image_id, request.prompt, draw) not in hit_keys]


def sizes(folder: Path) -> Iterator[tuple[dict[str, object], int, int, int]]:
    """Of every cache: engine and sampler, and its numbers of images, draws and bytes."""
    for file in sorted(folder.glob("*/about.json")):
        try:
            about = json.loads(file.read_text(encoding="utf-8"))
            _ = about["engine"]["engine"], about["engine"]["model"], about["sampler"].items()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            print(f"{file}: damaged; delete its folder to have these draws made again", file=sys.stderr)
            continue
        rows = _rows(file.parent)
        size = sum(path.stat().st_size for path in file.parent.glob("*.parquet"))
        yield about, rows["image_id"].n_unique(), rows.height, size
