"""Tables of the user's own: of the labels of pictures, and of other names of classes."""

import csv
import io
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.core.params import UserError, first_line
from pipeline.core.words import counted
from pipeline.datasets.split_names import split_of
from pipeline.method.spelling import normalised

TABLES = (".csv", ".parquet")
SUBSETS = ("base", "novel")
COLUMNS = ("path", "label", "split", "subset", "group")
"""Of a table of labels; the first two are required."""

DELIMITERS = (",", ";", "\t", "|")
LONGEST_VALUE = 4096  # characters of a value that is used
LARGEST_FIELD = 2**24  # characters of any other
CHECK = "`python -m pipeline.stages.download --check`"
CHECK_AGAIN = f"fix it, then check with {CHECK}"

File = tuple[str, str, str | None]
"""Path from the root, label, and split, None if there are no splits."""

Row = dict[str, str]


def class_name(label: str) -> str:
    """The class name that a folder or label stands for."""
    return " ".join(unicodedata.normalize("NFC", label).replace("_", " ").split())


def read_label_table(table: Path) -> tuple[list[File], dict[str, str], dict[str, str]]:
    """The pictures that a table names, and by class the subsets and the groups if it has them. Raises UserError."""
    columns, rows = _read_parquet(table) if table.suffix.lower() == ".parquet" else _read_csv(table, COLUMNS[:2])
    if missing := [name for name in COLUMNS[:2] if name not in columns]:
        raise UserError(f"{table}: no column {missing[0]!r} among {', '.join(columns)}; {CHECK_AGAIN}")
    if not rows:
        raise UserError(f"{table}: no rows; expected one for each picture; {CHECK_AGAIN}")
    files: list[File] = []
    subsets: dict[str, str] = {}
    groups: dict[str, str] = {}
    paths: set[str] = set()
    for place, row in rows:
        path, label, split, subset, group = (row.get(name, "") for name in COLUMNS)
        path, group = path.replace("\\", "/"), group.strip()
        pure = PurePosixPath(path)
        fault = None
        if not path or not label.strip():
            fault = "path or label is missing"
        elif max(map(len, (path, label, split, subset, group))) > LONGEST_VALUE:
            fault = f"a value of more than {LONGEST_VALUE:,} characters"
        elif "\0" in path:
            fault = f"{path!r} is no path"
        elif pure.is_absolute() or ".." in pure.parts:
            fault = f"{path!r} leads out of {table.parent}"
        elif (composed := unicodedata.normalize("NFC", str(pure))) in paths:
            fault = f"{path!r} occurs twice"
        elif "split" in columns and not split_of(split):
            fault = f"split {split!r}, expected train, val or test"
        elif "subset" in columns and subset not in SUBSETS:
            fault = f"subset {subset!r}, expected base or novel"
        elif subsets.setdefault(class_name(label), subset) != subset:
            fault = f"class {label!r} is {subsets[class_name(label)]} in one row and {subset} in another"
        elif "group" in columns and not group:
            fault = "group is missing"
        elif groups.setdefault(class_name(label), group) != group:
            fault = f"class {label!r} is of the group {groups[class_name(label)]!r} in one row and {group!r} in another"
        if fault:
            raise UserError(f"{table}: {place}: {fault}; {CHECK_AGAIN}")
        paths.add(composed)
        files.append((str(pure), label, split_of(split)))
    files = [(_on_disk(table.parent, path), label, split) for path, label, split in files]
    return files, subsets if "subset" in columns else {}, groups if "group" in columns else {}


def _on_disk(root: Path, path: str) -> str:
    """`path` in the Unicode form that the file has: macOS writes names in another one than most keyboards."""
    if path.isascii() or (root / path).exists():
        return path
    forms = (unicodedata.normalize(form, path) for form in ("NFC", "NFD"))
    return next((form for form in forms if (root / form).exists()), path)


def read_aliases(file: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Aliases by class name, from a CSV with the columns name and alias. Raises UserError."""
    columns, rows = _read_csv(file, ("name", "alias"))
    if not {"name", "alias"} <= set(columns):
        raise UserError(f"{file}: the columns {', '.join(columns)}, expected name and alias; {CHECK_AGAIN}")
    by_name = {normalised(name): name for name in names}
    aliases: dict[str, list[str]] = {}
    owner_of: dict[str, str] = {}
    for place, row in rows:
        name, alias = by_name.get(normalised(row["name"])), row["alias"].strip()
        if name is None or not normalised(alias):
            problem = f"no class {row['name']!r}" if name is None else f"no alias of {name!r}"
            raise UserError(f"{file}: {place}: {problem}, expected a class and another name of it; {CHECK_AGAIN}")
        if owner_of.setdefault(normalised(alias), name) != name or by_name.get(normalised(alias), name) != name:
            raise UserError(f"{file}: {place}: {alias!r} stands for two classes; {CHECK_AGAIN}")
        aliases.setdefault(name, []).append(alias)
    return aliases


def _read_parquet(table: Path) -> tuple[list[str], list[tuple[str, Row]]]:
    import polars as pl

    try:
        names = {name: name.strip().lower() for name in pl.read_parquet_schema(table)}
        rows = pl.read_parquet(table, columns=[name for name in names if names[name] in COLUMNS])
    # A damaged Parquet file can make polars' Rust side panic, which is no Exception.
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise UserError(f"{table}: cannot be read ({first_line(error)}); {CHECK_AGAIN}") from None
    # The label 0 is a class, a missing one is none.
    texts = (
        {names[name]: "" if value is None else str(value) for name, value in row.items()} for row in rows.to_dicts()
    )
    return list(names.values()), [(f"row {number}", row) for number, row in enumerate(texts, start=1)]


def _read_csv(file: Path, required: Collection[str]) -> tuple[list[str], list[tuple[str, Row]]]:
    """Column names, and by line the rows of a CSV with commas, semicolons, tabs or bars; blank lines are left out."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{file}: line {line} is not UTF-8 text; save it as CSV UTF-8, then `dvc repro`") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({first_line(error)}); {CHECK_AGAIN}") from None
    csv.field_size_limit(LARGEST_FIELD)
    header = next((line for line in text.splitlines() if line.strip()), "")
    splits = {mark: [name.strip().strip('"').lower() for name in header.split(mark)] for mark in DELIMITERS}
    delimiter = next((mark for mark, names in splits.items() if set(required) <= set(names)), ",")
    try:
        return splits[delimiter], list(_rows(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)))
    except csv.Error as error:
        raise UserError(f"{file}: cannot be read ({error}); {CHECK_AGAIN}") from None
    except _RaggedError as error:
        raise UserError(f"{file}: {error}; {CHECK_AGAIN}") from None


class _RaggedError(Exception):
    """A line with another number of values than the header has."""


def _rows(reader: Any) -> Iterator[tuple[str, Row]]:
    names: Sequence[str] | None = None
    for values in reader:
        if not any(value.strip() for value in values):
            continue
        if names is None:
            names = [name.strip().lower() for name in values]
            while names[-1] == "":  # a spreadsheet may end every line, or this one alone, with empty columns
                names.pop()
        elif len(values) < len(names) or any(values[len(names) :]):
            counts = f"{counted(len(values), 'value')}, expected {len(names)}: {', '.join(names)}"
            raise _RaggedError(f"line {reader.line_num}: {counts}")
        else:
            yield f"line {reader.line_num}", dict(zip(names, values, strict=False))
