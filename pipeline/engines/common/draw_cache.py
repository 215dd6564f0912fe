"""The draw cache: what was drawn once is never drawn again, and a run that was stopped continues where it was.

A cache is a folder for one engine, model and sampler; in it lie Parquet shards that are only ever added. The name of a
shard is the hash of its bytes, so that damage is noticed and two runs at once do not interfere.
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
from pathlib import Path

import polars as pl

from pipeline.core import timings
from pipeline.core.engine import Completion, Engine, Request, Sampler
from pipeline.core.files import whole_file, work_folder, write_text

VERSION = 2  # of the shards' columns and of what a cache is named after

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
        """All draws, each once. A damaged shard is reported and renamed; its draws count as not drawn."""
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
    # Two runs at once may both have drawn it: up to rounding the same, and the same one is taken every time.
    return pl.concat([SCHEMA.to_frame(), *readable]).unique(KEY, keep="first", maintain_order=True)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _read_shard(path: Path) -> pl.DataFrame | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:  # deleted by another run just now
        return None
    if _hash(content) == path.stem:
        return pl.read_parquet(content)
    damaged = path.rename(path.with_suffix(".damaged"))
    print(f"{path}: damaged, renamed to {damaged.name}; its draws will be drawn again", file=sys.stderr)
    return None


class CachingEngine:
    """An engine that draws only what it has not drawn before.

    Args:
        engine: who draws.
        folder: of all caches.
    """

    def __init__(self, engine: Engine, folder: Path):
        self.engine, self.folder = engine, folder
        self.cached, self.new = 0, 0
        self._rows_of: dict[Path, pl.DataFrame] = {}

    def fingerprint(self) -> dict[str, str]:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> dict[str, str]:
        # Once: it reads all of the model's weights, and predict draws block after block.
        return self.engine.fingerprint()

    def cache(self, sampler: Sampler) -> DrawCache:
        return DrawCache(self.folder, {"engine": self.fingerprint(), "sampler": asdict(sampler)})

    def draw(self, requests: Sequence[Request], sampler: Sampler) -> Iterator[list[Completion]]:
        cache = self.cache(sampler)
        if cache.folder not in self._rows_of:
            self._rows_of[cache.folder] = cache.read()
        keys = pl.DataFrame(
            [(request.image_id, request.question, draw) for request in requests for draw in request.draws],
            schema={name: SCHEMA[name] for name in KEY},
            orient="row",
        )
        hits = self._rows_of[cache.folder].join(keys, on=KEY, how="semi")
        self.cached += hits.height
        if hits.height:
            columns = hits.select("image_id", "draw", "text", "tokens", "finished", "probability")
            yield [Completion(**row) for row in columns.iter_rows(named=True)]
        cached_keys = set(hits.select(KEY).iter_rows())
        missing = [replace(request, draws=_missing(request, cached_keys)) for request in requests]
        question_of = {request.image_id: request.question for request in requests}
        for batch in self.engine.draw([request for request in missing if request.draws], sampler):
            # Failures are not cached: the next run tries again.
            rows = [
                (
                    *(done.image_id, question_of[done.image_id], done.draw),
                    *(done.text, done.tokens, done.finished, done.probability),
                )
                for done in batch
                if done.error is None
            ]
            if rows:
                cache.add(pl.DataFrame(rows, schema=SCHEMA, orient="row"))
            self.new += len(batch)
            timings.record(draws=len(batch), generated_tokens=sum(done.tokens for done in batch))
            yield batch

    def counts(self) -> str:
        return f"{self.new:,} new draws, {self.cached:,} from the draw cache"


def _missing(request: Request, cached_keys: set[tuple[object, ...]]) -> list[int]:
    return [draw for draw in request.draws if (request.image_id, request.question, draw) not in cached_keys]


def sizes(folder: Path) -> Iterator[tuple[dict[str, object], int, int, int]]:
    """Of every cache: what it is about, and its numbers of images, draws and bytes."""
    for about in sorted(folder.glob("*/about.json")):
        rows = _rows(about.parent)
        size = sum(path.stat().st_size for path in about.parent.glob("*.parquet"))
        yield json.loads(about.read_text()), rows["image_id"].n_unique(), rows.height, size
