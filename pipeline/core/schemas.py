"""The tables between stages: columns, types, meanings, keys and versions.

To add a column, add it here, raise the version of its table, and fill it in the stage that writes the table.
`python -m pipeline.core.schemas > docs/tables.md` writes the documentation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

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
    4,
    ("dataset", "class_id"),
    {
        "dataset": (pl.String, "name of the data set"),
        "class_id": (pl.Int64, "index in the official class list, from 0"),
        "name": (pl.String, "class name as the prompts show it"),
        "subset": (pl.String, "base or novel"),
        "aliases": (pl.List(pl.String), "other names that count as this class"),
        "noun": (pl.String, "what the pictures show, as the prompts say it"),
        "group": (pl.String, "group of classes that are mistaken alike, such as the genus or the make, or null"),
    },
    "download",
)

IMAGES = Table(
    "images",
    3,
    ("image_id",),
    {
        "image_id": (pl.String, "the content; of its second, third … occurrence a hash of the content and that number"),
        "dataset": (pl.String, "name of the data set"),
        "class_id": (pl.Int64, "the true class"),
        "split": (pl.String, "train, val, test, or out: to be used for nothing"),
        "file": (pl.String, "path in the data set, with forward slashes"),
        "status": (pl.String, "ok, or error: it cannot be read, and every answer to it is wrong"),
        "reason": (pl.String, "why it cannot be read, or null"),
        "content": (pl.String, "first 16 hexadecimal digits of the SHA-256 of the bytes (of an error: of its file)"),
        "perceptual_hash": (pl.String, "256 bits, hexadecimal, that hardly change with size and compression, or null"),
        "copies": (
            pl.String,
            "the same for all images that show the same picture: the least image_id among them; null where there is "
            "but one",
        ),
        "image": (pl.Binary, "JPEG or PNG, upright; empty if it cannot be read"),
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
        "answer": (pl.String, "the text inside <answer>, or null"),
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
    "draws": (pl.Int64, "draws of the image"),
    "valid_draws": (pl.Int64, "draws that name a class of the list"),
    "distinct": (pl.Int64, "different classes named"),
}

QUESTIONS = Table("questions", 2, ("image_id",), _QUESTION_COLUMNS, "options")
HARD = Table("hard", 2, ("image_id",), _QUESTION_COLUMNS, "filter")

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
        "greedy_status": (pl.String, "how parsing it went: ok, no_answer, off_list, truncated or error"),
        "greedy_probability": (pl.Float64, "of its answer, by the model itself; null if the engine does not report it"),
        "greedy_tokens": (pl.Int64, "generated tokens"),
        "draws": (pl.List(pl.Int64), "class that each of the K draws names, null for none"),
        "draw_statuses": (pl.List(pl.String), "how parsing each draw went"),
        "draw_texts": (pl.List(pl.String), "the K completions of step 1, verbatim"),
        "draw_tokens": (pl.List(pl.Int64), "generated tokens of each"),
        "options": (pl.List(OPTION), "in the order shown"),
        "choice_text": (pl.String, "step 2, verbatim; null if there was nothing to choose between"),
        "choice_probability": (pl.Float64, "of its letter, after its reasoning; null if the engine does not report it"),
        "choice_tokens": (pl.Int64, "generated tokens"),
        "letter": (pl.String, "letter chosen, or null"),
        "status": (pl.String, "how step 2 went"),
        "rotated": (pl.List(pl.Int64), "class chosen with the options rotated by 1, 2, … places, null if unparsable"),
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


def markdown() -> str:
    """docs/tables.md: every table with its key, columns, types and the stage that writes it."""
    parts = [
        "# The tables between stages",
        "Parquet files with a schema version in the footer, which is checked on every read. The same rows give the\n"
        "same bytes. This page is made by `python -m pipeline.core.schemas > docs/tables.md`.",
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
