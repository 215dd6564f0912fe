"""Your own photos: one folder a class, or a table of paths and labels.

photos/Laysan Albatross/1.jpg …                one folder a class, images at any depth inside
photos/train/Laysan Albatross/1.jpg …          the same inside of train, val and test
photos/labels.csv or .parquet                  path (from the table's folder) and label; optional split (train,
                                               val, test), subset (base, novel) and group (of classes that are
                                               mistaken alike, such as a genus)

Class names are those of folders or labels, underscores read as blanks, in alphabetical order.
"""

import csv
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

import polars as pl

from pipeline.core.params import UserError, first_line
from pipeline.datasets import layout, protocols
from pipeline.datasets.formats import SUFFIXES, is_read, unread_line
from pipeline.datasets.params import DataParams
from pipeline.datasets.source import Source
from pipeline.method.spelling import normalised

NAME = "folder"
NOUN = "object"
LICENCE = "Your own pictures."

TABLES = (".csv", ".parquet")
SUBSETS = ("base", "novel")
CHECK_AGAIN = "fix it, then check with `python -m pipeline.stages.download --check`"
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

COLUMNS = ("path", "label", "split", "subset", "group")
"""Of a table of labels; the first two are required."""

File = tuple[str, str, str | None]
"""Path from the root, label, and split, None if there are no splits."""


def open_source(place: Path, params: DataParams) -> Source:
    """The pictures of data.path. Raises UserError."""
    table = place if place.suffix.lower() in TABLES and not place.is_dir() else None
    if params.labels and table is None:
        table = place / params.labels
    root = place if table is None else table.parent
    if table is None and not root.is_dir():
        raise UserError(f"data.path: {place} is no folder and no table; set it with `dvc exp run -S data.path=…`")
    files, subsets, groups = (find_pictures(root), {}, {}) if table is None else read_label_table(table)
    if not files:
        raise UserError(
            f"{place}: no pictures; expected one folder for each class with {', '.join(SUFFIXES)} files in "
            "it; set another folder with `dvc exp run -S data.path=…`, "
            "or a table in it with `-S data.labels=…` (docs/your-data.md)"
        )
    names = class_names(place, {label for _, label, _ in files})
    class_ids = {label: names.index(class_name(label)) for label in {label for _, label, _ in files}}
    rows = [(path, class_ids[label], split or "") for path, label, split in files]
    if not any(split == "test" for _, _, split in rows):
        rows = protocols.with_test_split(
            [(path, class_id, split or "train") for path, class_id, split in rows], params.test_share, params.seed
        )
    require_training_images(place, rows)

    def pictures(paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        for path in paths:
            try:
                yield path, (root / path).read_bytes()
            except OSError as error:
                raise UserError(f"{root / path}: cannot be read ({error.strerror}); {CHECK_AGAIN}") from None

    return Source(
        name=NAME,
        names=names,
        rows=layout.table(rows, names),
        noun=NOUN,
        licence=LICENCE,
        pictures=pictures,
        aliases=other_names((place if place.is_dir() else root) / params.aliases, names) if params.aliases else {},
        groups=[groups[name] for name in names] if groups else (),
        subsets=[subsets[name] for name in names] if subsets else (),
    )


def class_name(label: str) -> str:
    """The class name that a folder or label stands for."""
    return " ".join(label.replace("_", " ").split())


def class_names(place: Path, labels: Collection[str]) -> list[str]:
    """The classes in alphabetical order. UserError if two labels are the same name, or there is one class."""
    label_of: dict[str, str] = {}
    for label in sorted(labels):
        other = label_of.setdefault(normalised(class_name(label)), label)
        if other != label or not normalised(label):
            what = (
                f"{other!r} and {label!r} are the same class name" if other != label else f"{label!r} is no class name"
            )
            raise UserError(f"{place}: {what}; rename or merge them, then `python -m pipeline.stages.download --check`")
    if len(label_of) < 2:
        raise UserError(
            f"{place}: one class, {class_name(next(iter(labels)))!r}, expected at least two; add one, then `dvc repro`"
        )
    return sorted((class_name(label) for label in label_of.values()), key=lambda name: (name.casefold(), name))


def find_pictures(root: Path) -> list[File]:
    """The pictures in the folders of `root`; prints how many others are skipped, and why."""
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    in_splits = bool(folders) and all(folder.name.lower() in SPLITS for folder in folders)
    above = 2 if in_splits else 1  # folders over a picture: its split's, its class's
    home = root.resolve()
    files: list[File] = []
    skipped: Counter[str] = Counter()
    unread: Counter[str] = Counter()  # by suffix
    for entry in sorted(root.iterdir()):
        # What a hidden folder of the root holds (.git, .dvc) is not even looked at.
        for path in [] if entry.name.startswith(".") else [entry, *sorted(entry.rglob("*"))]:
            inner = path.relative_to(root).parts
            suffix = path.suffix.lower()
            if not path.is_file() or (len(inner) == 1 and suffix in TABLES):  # tables of labels and of aliases
                continue
            hidden = any(name.startswith(".") for name in inner)
            if not is_read(suffix):
                unread.update([] if hidden else [suffix])
            elif hidden:
                skipped["hidden"] += 1
            elif not path.resolve().is_relative_to(home):
                skipped["behind links that lead outside"] += 1
            elif len(inner) <= above:
                skipped["in no class folder"] += 1
            else:
                files.append(("/".join(inner), inner[above - 1], SPLITS[inner[0].lower()] if in_splits else None))
    for why, count in skipped.items():
        print(f"{root}: pictures skipped, {why}: {count}")
    if unread:
        print(f"{root}: {unread_line(unread)}")
    return files


def read_label_table(table: Path) -> tuple[list[File], dict[str, str], dict[str, str]]:
    """The pictures that a table names, and by class the subsets and the groups if it has them. Raises UserError."""
    try:
        table_rows = (
            pl.read_parquet(table) if table.suffix.lower() == ".parquet" else pl.read_csv(table, infer_schema=False)
        )
    # A damaged Parquet file can make polars' Rust side panic, which is no Exception.
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise UserError(f"{table}: cannot be read ({first_line(error)}); {CHECK_AGAIN}") from None
    if missing := [name for name in COLUMNS[:2] if name not in table_rows.columns]:
        raise UserError(f"{table}: no column {missing[0]!r} among {', '.join(table_rows.columns)}; {CHECK_AGAIN}")
    if table_rows.is_empty():
        raise UserError(f"{table}: no rows; expected one for each picture; {CHECK_AGAIN}")
    files: list[File] = []
    subsets: dict[str, str] = {}
    groups: dict[str, str] = {}
    paths: set[str] = set()
    for number, row in enumerate(table_rows.iter_rows(named=True), start=1):
        # The label 0 is a class, a missing one is none.
        values = (
            "" if row.get(name) is None else str(row[name]) for name in ("path", "label", "split", "subset", "group")
        )
        path, label, split, subset, group = values
        path, group = path.replace("\\", "/"), group.strip()
        pure = PurePosixPath(path)
        fault = None
        if not path or not label.strip():
            fault = "path or label is missing"
        elif pure.is_absolute() or ".." in pure.parts:
            fault = f"{path!r} leads out of {table.parent}"
        elif str(pure) in paths:
            fault = f"{path!r} occurs twice"
        elif "split" in table_rows.columns and split.lower() not in SPLITS:
            fault = f"split {split!r}, expected train, val or test"
        elif "subset" in table_rows.columns and subset not in SUBSETS:
            fault = f"subset {subset!r}, expected base or novel"
        elif subsets.setdefault(class_name(label), subset) != subset:
            fault = f"class {label!r} is {subsets[class_name(label)]} in one row and {subset} in another"
        elif "group" in table_rows.columns and not group:
            fault = "group is missing"
        elif groups.setdefault(class_name(label), group) != group:
            fault = f"class {label!r} is of the group {groups[class_name(label)]!r} in one row and {group!r} in another"
        if fault:
            raise UserError(f"{table}: row {number}: {fault}; {CHECK_AGAIN}")
        paths.add(str(pure))
        files.append((str(pure), label, SPLITS[split.lower()] if split else None))
    columns = table_rows.columns
    return files, subsets if "subset" in columns else {}, groups if "group" in columns else {}


def require_training_images(place: Path, rows: Sequence[protocols.Row]) -> None:
    """Raises UserError where there is nothing to train on."""
    if not any(split == "train" for _, _, split in rows):
        raise UserError(
            f"{place}: no training images; add a folder train, or rows with the split train, then `dvc repro`"
        )


def other_names(file: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Aliases by class name, from a CSV with the columns name and alias. Raises UserError."""
    by_name = {normalised(name): name for name in names}
    aliases: dict[str, list[str]] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: cannot be read ({error}); {CHECK_AGAIN}") from None
    owner_of: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        name, alias = by_name.get(normalised(row.get("name") or "")), (row.get("alias") or "").strip()
        if name is None or not normalised(alias):
            raise UserError(
                f"{file}: line {number}: {row}, expected the columns name (of a class) and alias; {CHECK_AGAIN}"
            )
        if owner_of.setdefault(normalised(alias), name) != name or by_name.get(normalised(alias), name) != name:
            raise UserError(f"{file}: line {number}: {alias!r} stands for two classes; {CHECK_AGAIN}")
        aliases.setdefault(name, []).append(alias)
    return aliases
