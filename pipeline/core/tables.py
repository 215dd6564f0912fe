"""The tables between stages: their schemas, and the only code that reads or writes them.

A table is one Parquet file with its name and schema version in the footer. The same rows give the same bytes: they are
sorted by key, and nothing of the clock, the host or the revision is written.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.core.files import whole_file
from pipeline.core.params import UserError

FOOTER_KEY = "divek.schema"

GROUP_BYTES = 2**25  # of a row group, where a table is written piece by piece

STATUSES = ("ok", "no_answer", "off_list", "truncated", "error")

OPTION = pl.Struct({"class_id": pl.Int64, "name": pl.String, "votes": pl.Int64, "rank": pl.Int64, "source": pl.String})


@dataclass(frozen=True)
class Table:
    """A schema: columns in order with type and meaning, the key that is unique and sorts, the stage that writes it."""

    name: str
    version: int
    key: tuple[str, ...]
    columns: Mapping[str, tuple[pl.DataType | type[pl.DataType], str]]
    stage: str

    @property
    def schema(self) -> pl.Schema:
        return pl.Schema({name: dtype for name, (dtype, _) in self.columns.items()})

    @property
    def mark(self) -> str:
        return f"{self.name}/{self.version}"


CLASSES = Table(
    "classes",
    3,
    ("dataset", "class_id"),
    {
        "dataset": (pl.String, "name of the data set"),
        "class_id": (pl.Int64, "index in the official class list, from 0"),
        "name": (pl.String, "class name as the model is asked"),
        "subset": (pl.String, "base or novel"),
        "aliases": (pl.List(pl.String), "other names that count as this class"),
        "noun": (pl.String, "what the pictures show, as the questions say it"),
    },
    "download",
)

IMAGES = Table(
    "images",
    2,
    ("image_id",),
    {
        "image_id": (pl.String, "the content; of its second, third … occurrence a hash of the content and that number"),
        "dataset": (pl.String, "name of the data set"),
        "class_id": (pl.Int64, "the true class"),
        "split": (pl.String, "train, val, test, or out: to be used for nothing"),
        "file": (pl.String, "path in the data set, with forward slashes"),
        "status": (pl.String, "ok, or error: it cannot be opened, and every answer to it is wrong"),
        "reason": (pl.String, "why it cannot be opened, or null"),
        "content": (pl.String, "first 16 hexadecimal digits of the SHA-256 of the bytes (of an error: of its file)"),
        "perceptual_hash": (pl.String, "256 bits, hexadecimal, that hardly change with size and compression, or null"),
        "image": (pl.Binary, "JPEG or PNG, upright; empty where it cannot be opened"),
        "width": (pl.Int64, "pixels, or null"),
        "height": (pl.Int64, "pixels, or null"),
    },
    "download",
)

SAMPLES = Table(
    "samples",
    1,
    ("image_id", "draw"),
    {
        "image_id": (pl.String, "the image"),
        "draw": (pl.Int64, "number of the draw, from 0"),
        "text": (pl.String, "the completion, verbatim"),
        "answer": (pl.String, "what stands inside <answer>, or null"),
        "class_id": (pl.Int64, "the class that the answer names, or null"),
        "status": (pl.String, "ok, no_answer, off_list, truncated or error"),
        "tokens": (pl.Int64, "generated tokens, the end mark included"),
    },
    "sample",
)

_QUESTION_COLUMNS: dict[str, tuple[Any, str]] = {
    "image_id": (pl.String, "the image"),
    "dataset": (pl.String, "name of the data set"),
    "class_id": (pl.Int64, "the true class"),
    "options": (
        pl.List(OPTION),
        "in the order shown; votes among the draws, rank by votes from 1 (null: not drawn), source (draws, truth, "
        "random or text_embedding)",
    ),
    "answer": (pl.String, "letter of the true class"),
    "truth_rank": (pl.Int64, "rank of the true class among all drawn classes, from 1; null where it was never drawn"),
    "truth_votes": (pl.Int64, "draws that name the true class"),
    "valid_draws": (pl.Int64, "draws that name a class of the list"),
    "distinct": (pl.Int64, "different classes named"),
}

QUESTIONS = Table("questions", 1, ("image_id",), _QUESTION_COLUMNS, "options")
HARD = Table("hard", 1, ("image_id",), _QUESTION_COLUMNS, "filter")

PREDICTIONS = Table(
    "predictions",
    3,
    ("model", "image_id"),
    {
        "model": (pl.String, "base, trained, or the name of a further model"),
        "image_id": (pl.String, "the image"),
        "split": (pl.String, "test, for results; or val, images of base classes that decisions are made on"),
        "dataset": (pl.String, "name of the data set"),
        "class_id": (pl.Int64, "the true class"),
        "subset": (pl.String, "base or novel: the subset of the classes that the image belongs to"),
        "greedy_text": (pl.String, "step 1, greedy, verbatim"),
        "greedy_status": (pl.String, "how reading it went"),
        "greedy_probability": (pl.Float64, "of its answer, by the model itself; null where the engine does not tell"),
        "greedy_tokens": (pl.Int64, "generated tokens"),
        "draws": (pl.List(pl.Int64), "class named by each of the K draws, null where it names none"),
        "draw_statuses": (pl.List(pl.String), "how reading each draw went"),
        "draw_texts": (pl.List(pl.String), "the K completions of step 1, verbatim"),
        "draw_tokens": (pl.List(pl.Int64), "generated tokens of each"),
        "options": (pl.List(OPTION), "in the order shown"),
        "choice_text": (pl.String, "step 2, verbatim; null where there was nothing to choose between"),
        "choice_probability": (pl.Float64, "of its letter, after its reasoning; null where the engine does not tell"),
        "choice_tokens": (pl.Int64, "generated tokens"),
        "letter": (pl.String, "letter chosen, or null"),
        "status": (pl.String, "how step 2 went"),
        "rotated": (pl.List(pl.Int64), "class chosen with the options turned by 1, 2, … places, null where unreadable"),
        "rotated_tokens": (pl.List(pl.Int64), "generated tokens of each of these"),
        "one_step": (pl.Int64, "class by the greedy answer, or null"),
        "vote": (pl.Int64, "class with the most votes, or null"),
        "two_step": (pl.Int64, "class by the choice among the options, or null"),
    },
    "predict",
)

ROLLOUTS = Table(
    "rollouts",
    1,
    ("step", "image_id", "rollout"),
    {
        "step": (pl.Int64, "optimiser step for which it was drawn, from 1"),
        "image_id": (pl.String, "the image"),
        "rollout": (pl.Int64, "number in its group, from 0"),
        "text": (pl.String, "the completion"),
        "letter": (pl.String, "letter chosen, or null; null for open questions"),
        "answer_reward": (pl.Float64, "for the right letter or name, 0 or 1"),
        "format_reward": (pl.Float64, "for the form, 0 or 1"),
        "advantage": (pl.Float64, "of the completion in its group"),
    },
    "train",
)

TABLES = (CLASSES, IMAGES, SAMPLES, QUESTIONS, HARD, PREDICTIONS, ROLLOUTS)


def read(table: Table, path: Path, columns: list[str] | None = None, where: pl.Expr | None = None) -> pl.DataFrame:
    """The rows of `path` that `where` holds of, checked to be `table` in its present version. Raises UserError."""
    again = f"`dvc repro {table.stage}` writes it anew"
    if not path.is_file():
        raise UserError(f"{path}: no such file, wanted table {table.mark}; `dvc repro {table.stage}` writes it")
    try:
        found = pl.read_parquet_metadata(path).get(FOOTER_KEY)
        if found != table.mark:
            raise UserError(f"{path}: found table {found or 'without a mark'}, wanted {table.mark}; {again}")
        rows = pl.scan_parquet(path, use_statistics=False, glob=False)
        rows = rows if where is None else rows.filter(where)
        frame = (rows if columns is None else rows.select(columns)).collect()
    # A flipped byte can make polars' Rust side panic, which is no Exception.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = (str(error).strip().splitlines() or ["unreadable"])[0]
        raise UserError(f"{path}: damaged or not Parquet ({reason}), wanted table {table.mark}; {again}") from None
    wanted = {name: table.schema[name] for name in (columns or table.schema.names())}
    if dict(frame.schema) != wanted:
        raise UserError(f"{path}: found columns {_differences(frame.schema, wanted)} of {table.mark}; {again}")
    if set(table.key) <= set(frame.columns) and (twice := _doubled(table, frame)):
        raise UserError(f"{path}: found {twice}, wanted each key of {table.mark} once; {again}")
    return frame


def read_images(path: Path, ids: pl.Series) -> pl.DataFrame:
    """The rows of the table of images with these image_ids, pictures included. Raises UserError."""
    return read(IMAGES, path, where=pl.col("image_id").is_in(ids.implode()))


def write(table: Table, frame: pl.DataFrame, path: Path) -> None:
    """Writes `frame` as `table`, whole or not at all. ValueError where it does not fit the schema."""
    _require(table, frame)
    with whole_file(path) as partial:
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

    def filled(rows: pl.DataFrame, values: list[bytes]) -> pl.DataFrame:
        return rows.with_columns(pl.Series(column, values, pl.Binary)).select(table.schema.names())

    _require(table, filled(frame, [b""] * frame.height))
    ordered = frame.with_columns(_row=pl.int_range(pl.len()), _size=sizes).sort(table.key)
    ordered = ordered.with_columns(_group=pl.col("_size").cum_sum() // GROUP_BYTES)
    oldest = pl.CompatLevel.oldest()
    empty = table.schema.to_frame().to_arrow(compat_level=oldest)
    schema = empty.schema.with_metadata({FOOTER_KEY: table.mark})
    codecs = {name: "zstd" for name in table.schema} | {column: "none"}  # pictures are compressed already
    with whole_file(path) as partial, pq.ParquetWriter(partial, schema, compression=codecs) as writer:
        for group in ordered.partition_by("_group", maintain_order=True):
            rows = filled(group.drop("_row", "_size", "_group"), [value(row) for row in group["_row"]])
            writer.write_table(rows.to_arrow(compat_level=oldest).cast(schema))


def _require(table: Table, frame: pl.DataFrame) -> None:
    """ValueError where `frame` does not fit `table`."""
    if dict(frame.schema) != dict(table.schema):
        raise ValueError(f"{table.mark}: columns differ: {_differences(frame.schema, table.schema)}")
    if twice := _doubled(table, frame):
        raise ValueError(f"{table.mark}: {twice}")
    for column in frame.columns:
        if column.endswith("status") and (strange := set(frame[column]) - set(STATUSES)):
            raise ValueError(f"{table.mark}: {column} {strange.pop()!r} is none of {', '.join(STATUSES)}")
    if frame.select(pl.any_horizontal(pl.col(table.key).is_null().any())).item():
        raise ValueError(f"{table.mark}: a key is null")


def _doubled(table: Table, frame: pl.DataFrame) -> str | None:
    if _ascends(table, frame):  # as every table does that was written here: a tenth of the time of counting
        return None
    doubles = frame.group_by(table.key, maintain_order=True).len().filter(pl.col("len") > 1)
    return f"key {doubles.row(0)[:-1]} in {doubles.row(0)[-1]} rows" if doubles.height else None


def _ascends(table: Table, frame: pl.DataFrame) -> bool:
    """Whether each row's key is larger than that of the row before."""
    larger = pl.lit(False)
    for name in reversed(table.key):
        here, before = pl.col(name), pl.col(name).shift()
        larger = (here > before) | ((here == before) & larger)
    return bool(frame.select(larger.slice(1).fill_null(False).all()).item())


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    lacking = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    other = [f"{name} as {found[name]}" for name in wanted if name in found and found[name] != wanted[name]]
    parts = (("without", lacking), ("with", extra), ("with", other))
    return "; ".join(f"{word} {', '.join(names)}" for word, names in parts if names) or "in another order"


def markdown() -> str:
    """docs/tables.md: every table with its key, columns, types and the stage that writes it."""
    parts = [
        "# The tables between stages",
        "Parquet files with a schema version in the footer, which is checked on every read. The same rows give the\n"
        "same bytes. This page is made by `python -m pipeline.core.tables > docs/tables.md`.",
    ]
    for table in TABLES:
        key = ", ".join(f"`{name}`" for name in table.key)
        parts.append(f"## {table.name}\nVersion {table.version}, written by `{table.stage}`. One row for each {key}.")
        rows = [f"| `{name}` | {_type(dtype)} | {meaning} |" for name, (dtype, meaning) in table.columns.items()]
        parts.append("\n".join(["| column | type | meaning |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _type(dtype: Any) -> str:
    if isinstance(dtype, pl.List):
        return f"list of {_type(dtype.inner)}"
    if isinstance(dtype, pl.Struct):
        return f"{{{', '.join(f'{field.name}: {_type(field.dtype)}' for field in dtype.fields)}}}"
    return str(dtype).lower()


if __name__ == "__main__":
    print(markdown(), end="")
