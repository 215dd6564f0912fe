"""Your own photos: one folder a class, or a table of paths and labels.

photos/Laysan Albatross/1.jpg …                one folder a class, images at any depth inside
photos/train/Laysan Albatross/1.jpg …          the same inside of train, val and test
photos/labels.csv or .parquet                  path (from the table's folder), label; part (train, val, test) and
                                               half (base, novel) where there is no rule to follow

Class names are those of folders or labels, underscores read as blanks, in alphabetical order.
"""

import csv
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

import polars as pl

from pipeline.core.params import UserError
from pipeline.datasets import layout
from pipeline.datasets.params import DataParams
from pipeline.datasets.source import Source
from pipeline.method.class_names import normalised

NAME = "folder"
NOUN = "object"
LICENCE = "Your own pictures."

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
TABLES = (".csv", ".parquet")
SUBSETS = ("base", "novel")
MEND = "mend it, then `python -m pipeline.stages.download --check` looks again"
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

File = tuple[str, str, str | None]
"""Path from the root, label, and part, None where there are no parts."""


def opened(place: Path, wanted: DataParams) -> Source:
    """The pictures of data.path. Raises UserError."""
    table = place if place.suffix.lower() in TABLES and not place.is_dir() else None
    if wanted.labels and table is None:
        table = place / wanted.labels
    root = place if table is None else table.parent
    if table is None and not root.is_dir():
        raise UserError(f"data.path: {place} is no folder and no table; set it with `dvc exp run -S data.path=…`")
    files, subsets = (found(root), {}) if table is None else tabled(table)
    if not files:
        raise UserError(
            f"{place}: no pictures, wanted one folder a class with {', '.join(SUFFIXES)} files in it; set another "
            "folder with `dvc exp run -S data.path=…`, or a table in it with `-S data.labels=…` (docs/your-data.md)"
        )
    names = class_names(place, {label for _, label, _ in files})
    class_ids = {label: names.index(shown(label)) for label in {label for _, label, _ in files}}
    rows = [(path, class_ids[label], split or "") for path, label, split in files]
    if not any(split == "test" for _, _, split in rows):
        rows = layout.held_out(
            [(path, class_id, split or "train") for path, class_id, split in rows], wanted.test_share, wanted.seed
        )
    require_parts(place, rows)

    def pictures(paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        for path in paths:
            try:
                yield path, (root / path).read_bytes()
            except OSError as error:
                raise UserError(f"{root / path}: cannot be read ({error.strerror}), wanted a picture; {MEND}") from None

    return Source(
        name=NAME,
        names=names,
        rows=layout.table(rows, names),
        noun=NOUN,
        licence=LICENCE,
        pictures=pictures,
        aliases=other_names((place if place.is_dir() else root) / wanted.aliases, names) if wanted.aliases else {},
        subsets=[subsets[name] for name in names] if subsets else (),
    )


def shown(label: str) -> str:
    """The class name that a folder or label stands for."""
    return " ".join(label.replace("_", " ").split())


def class_names(place: Path, labels: Collection[str]) -> list[str]:
    """The classes in alphabetical order. UserError where two labels cannot be told apart, or there is one class."""
    seen: dict[str, str] = {}
    for label in sorted(labels):
        other = seen.setdefault(normalised(shown(label)), label)
        if other != label or not normalised(label):
            what = (
                f"{other!r} and {label!r} are the same class name" if other != label else f"{label!r} is no class name"
            )
            raise UserError(f"{place}: {what}; rename or merge them, then `python -m pipeline.stages.download --check`")
    if len(seen) < 2:
        raise UserError(
            f"{place}: one class, {shown(next(iter(labels)))!r}, wanted at least two; add another, then `dvc repro`"
        )
    return sorted((shown(label) for label in seen.values()), key=lambda name: (name.casefold(), name))


def found(root: Path) -> list[File]:
    """The pictures in the folders of `root`; says how many others it leaves alone, and why."""
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    in_splits = bool(folders) and all(folder.name.lower() in SPLITS for folder in folders)
    above = 2 if in_splits else 1  # folders over a picture: its part's, its class's
    home = root.resolve()
    files: list[File] = []
    left: Counter[str] = Counter()
    for entry in sorted(root.iterdir()):
        # What a hidden folder of the root holds (.git, .dvc) is not even looked at.
        for path in [] if entry.name.startswith(".") else [entry, *sorted(entry.rglob("*"))]:
            inner = path.relative_to(root).parts
            if path.suffix.lower() not in SUFFIXES or not path.is_file():
                continue
            if any(name.startswith(".") for name in inner):
                left["hidden"] += 1
            elif not path.resolve().is_relative_to(home):
                left["behind links that lead outside"] += 1
            elif len(inner) <= above:
                left["in no class folder"] += 1
            else:
                files.append(("/".join(inner), inner[above - 1], SPLITS[inner[0].lower()] if in_splits else None))
    for why, count in left.items():
        print(f"{root}: pictures left out, {why}: {count}")
    return files


def tabled(table: Path) -> tuple[list[File], dict[str, str]]:
    """The pictures that a table names, and the halves of the classes where it says them. Raises UserError."""
    try:
        read = pl.read_parquet(table) if table.suffix.lower() == ".parquet" else pl.read_csv(table, infer_schema=False)
    # A damaged Parquet file can make polars' Rust side panic, which is no Exception.
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = (str(error).strip().splitlines() or ["unreadable"])[0]
        raise UserError(f"{table}: cannot be read ({reason}), wanted a table of paths and labels; {MEND}") from None
    if lacking := [name for name in ("path", "label") if name not in read.columns]:
        raise UserError(f"{table}: no column {lacking[0]!r} among {', '.join(read.columns)}; {MEND}")
    if read.is_empty():
        raise UserError(f"{table}: no rows, wanted one a picture; {MEND}")
    files: list[File] = []
    subsets: dict[str, str] = {}
    twice: set[str] = set()
    for number, row in enumerate(read.iter_rows(named=True), start=1):
        # The label 0 is a class, a missing one is none.
        said = ("" if row.get(name) is None else str(row[name]) for name in ("path", "label", "split", "subset"))
        path, label, split, subset = said
        path = path.replace("\\", "/")
        pure = PurePosixPath(path)
        fault = None
        if not path or not label.strip():
            fault = "path or label is missing"
        elif pure.is_absolute() or ".." in pure.parts:
            fault = f"{path!r} leads out of {table.parent}"
        elif str(pure) in twice:
            fault = f"{path!r} stands there twice"
        elif "split" in read.columns and split.lower() not in SPLITS:
            fault = f"part {split!r}, wanted train, val or test"
        elif "subset" in read.columns and subset not in SUBSETS:
            fault = f"half {subset!r}, wanted base or novel"
        elif subsets.setdefault(shown(label), subset) != subset:
            fault = f"class {label!r} is {subsets[shown(label)]} in one row and {subset} in another"
        if fault:
            raise UserError(f"{table}: row {number}: {fault}; {MEND}")
        twice.add(str(pure))
        files.append((str(pure), label, SPLITS[split.lower()] if split else None))
    return files, subsets if "subset" in read.columns else {}


def require_parts(place: Path, rows: Sequence[layout.Row]) -> None:
    """Raises UserError where there is nothing to train on."""
    if not any(split == "train" for _, _, split in rows):
        raise UserError(
            f"{place}: no training images, wanted some; add a folder or rows with the part train, then `dvc repro`"
        )


def other_names(file: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Aliases by class name, from a CSV with the columns name and alias. Raises UserError."""
    by_name = {normalised(name): name for name in names}
    aliases: dict[str, list[str]] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: cannot be read ({error}), wanted a CSV of aliases; {MEND}") from None
    taken: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        name, alias = by_name.get(normalised(row.get("name") or "")), (row.get("alias") or "").strip()
        if name is None or not normalised(alias):
            raise UserError(f"{file}: line {number}: {row}, wanted the columns name (of a class) and alias; {MEND}")
        if taken.setdefault(normalised(alias), name) != name or by_name.get(normalised(alias), name) != name:
            raise UserError(f"{file}: line {number}: {alias!r} stands for two classes; {MEND}")
        aliases.setdefault(name, []).append(alias)
    return aliases
