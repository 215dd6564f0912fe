"""Reads and writes the tables between stages: nothing else does.

A table is one Parquet file with its name and schema version in the footer. The same rows give the same bytes: rows are
sorted by key, and no clock, host or revision is written.
"""

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.core.files import whole_file
from pipeline.core.params import UserError, first_line
from pipeline.core.schemas import (
    CLASSES,
    HARD,
    IMAGES,
    OPTION,
    PREDICTIONS,
    QUESTIONS,
    ROLLOUTS,
    SAMPLES,
    STATUSES,
    TABLES,
    Table,
)

__all__ = [
    "CLASSES",
    "HARD",
    "IMAGES",
    "OPTION",
    "PREDICTIONS",
    "QUESTIONS",
    "ROLLOUTS",
    "SAMPLES",
    "STATUSES",
    "TABLES",
    "Table",
    "read",
    "read_images",
    "write",
    "write_by_rows",
]

FOOTER_KEY = "divek.schema"

PROBE_BYTES = 2**16  # more than a block of any file system
GROUP_BYTES = 2**25  # of a row group, where a table is written piece by piece


def read(table: Table, path: Path, columns: list[str] | None = None, where: pl.Expr | None = None) -> pl.DataFrame:
    """The rows of `path` that satisfy `where`, checked to be `table` in its current version. Raises UserError."""
    next_step = f"`dvc repro {table.stage}` writes it again"
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro {table.stage}` writes it")
    try:
        actual = pl.read_parquet_metadata(path).get(FOOTER_KEY)
        if actual != table.mark:
            raise UserError(f"{path}: this is {actual or 'no table of divek'}, expected {table.mark}; {next_step}")
        rows = pl.scan_parquet(path, use_statistics=False, glob=False)
        rows = rows if where is None else rows.filter(where)
        frame = (rows if columns is None else rows.select(columns)).collect()
    # A flipped byte can make polars' Rust side panic, which is no Exception.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise UserError(f"{path}: damaged or not Parquet ({first_line(error)}); {next_step}") from None
    expected = {name: table.schema[name] for name in (columns or table.schema.names())}
    if dict(frame.schema) != expected:
        raise UserError(
            f"{path}: the columns differ from {table.mark}: {_differences(frame.schema, expected)}; {next_step}"
        )
    if set(table.key) <= set(frame.columns) and (duplicates := _duplicates(table, frame)):
        raise UserError(f"{path}: {duplicates}, but each key of {table.mark} must be unique; {next_step}")
    return frame


def read_images(path: Path, ids: pl.Series) -> pl.DataFrame:
    """The rows of the table of images with these image_ids, pictures included. Raises UserError."""
    return read(IMAGES, path, where=pl.col("image_id").is_in(ids.implode()))


def csv_text(table: pl.DataFrame) -> str:
    """A report as CSV that a spreadsheet does not run: class names and answers come from other people and from models.

    A text that begins as a formula does (=, +, -, @) gets an apostrophe in front; control characters are left out.
    """
    texts = pl.selectors.string().str.replace_all(r"\p{Cc}", "")
    return table.with_columns(texts.str.replace(r"^([=+\-@])", "'$1")).write_csv()


def write(table: Table, frame: pl.DataFrame, path: Path) -> None:
    """Writes `frame` as `table`, whole or not at all. ValueError where it does not fit the schema."""
    _require(table, frame)
    with whole_file(path) as partial, _writable(path, partial):
        frame.sort(table.key).write_parquet(partial, compression="zstd", metadata={FOOTER_KEY: table.mark})


def write_by_rows(
    table: Table, frame: pl.DataFrame, column: str, sizes: pl.Series, value: Callable[[int], bytes], path: Path
) -> None:
    """`write` for a table whose `column` does not fit into memory.

    Args:
        frame: the rows without this column.
        sizes: bytes of its values, in the order of the rows.
        value: gives the value of a row by its number in `frame`.
    """
    import pyarrow.parquet as pq

    def complete(rows: pl.DataFrame, values: list[bytes]) -> pl.DataFrame:
        return rows.with_columns(pl.Series(column, values, pl.Binary)).select(table.schema.names())

    _require(table, complete(frame, [b""] * frame.height))
    ordered = frame.with_columns(_row=pl.int_range(pl.len()), _size=sizes).sort(table.key)
    ordered = ordered.with_columns(_group=pl.col("_size").cum_sum() // GROUP_BYTES)
    oldest = pl.CompatLevel.oldest()
    empty = table.schema.to_frame().to_arrow(compat_level=oldest)
    schema = empty.schema.with_metadata({FOOTER_KEY: table.mark})
    codecs = {name: "zstd" for name in table.schema} | {column: "none"}  # pictures are compressed already
    with (
        whole_file(path) as partial,
        _writable(path, partial),
        pq.ParquetWriter(partial, schema, compression=codecs) as writer,
    ):
        for group in ordered.partition_by("_group", maintain_order=True):
            rows = complete(group.drop("_row", "_size", "_group"), [value(row) for row in group["_row"]])
            writer.write_table(rows.to_arrow(compat_level=oldest).cast(schema))


@contextmanager
def _writable(path: Path, partial: Path) -> Iterator[None]:
    """A full disk as OSError: polars reports it as an error of its own, mostly without the reason."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        with partial.open("ab") as file:  # which tells the reason, where it is the system's
            file.write(bytes(PROBE_BYTES))
        raise OSError(errno.EIO, f"cannot be written ({first_line(error)})", str(path)) from error


def _require(table: Table, frame: pl.DataFrame) -> None:
    """ValueError where `frame` does not fit `table`."""
    if dict(frame.schema) != dict(table.schema):
        raise ValueError(f"{table.mark}: columns differ: {_differences(frame.schema, table.schema)}")
    if duplicates := _duplicates(table, frame):
        raise ValueError(f"{table.mark}: {duplicates}")
    for column in frame.columns:
        if column.endswith("status") and (unknown := set(frame[column]) - set(STATUSES)):
            raise ValueError(f"{table.mark}: {column} {unknown.pop()!r} is none of {', '.join(STATUSES)}")
    if frame.select(pl.any_horizontal(pl.col(table.key).is_null().any())).item():
        raise ValueError(f"{table.mark}: a key is null")


def _duplicates(table: Table, frame: pl.DataFrame) -> str | None:
    if _ascends(table, frame):  # as every table written here: ten times as fast as counting
        return None
    repeated = frame.group_by(table.key, maintain_order=True).len().filter(pl.col("len") > 1)
    return f"key {repeated.row(0)[:-1]} in {repeated.row(0)[-1]} rows" if repeated.height else None


def _ascends(table: Table, frame: pl.DataFrame) -> bool:
    """Whether each row's key is larger than that of the row before."""
    larger = pl.lit(False)
    for name in reversed(table.key):
        here, before = pl.col(name), pl.col(name).shift()
        larger = (here > before) | ((here == before) & larger)
    return bool(frame.select(larger.slice(1).fill_null(False).all()).item())


def _differences(actual: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    absent = [name for name in expected if name not in actual]
    extra = [name for name in actual if name not in expected]
    other = [f"{name} as {actual[name]}" for name in expected if name in actual and actual[name] != expected[name]]
    parts = (("without", absent), ("with", extra), ("with", other))
    return "; ".join(f"{word} {', '.join(names)}" for word, names in parts if names) or "in another order"
