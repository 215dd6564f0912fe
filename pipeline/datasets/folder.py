"""Your own photos: one folder a class, or a table of paths and labels.

photos/Laysan Albatross/1.jpg …                one folder a class, images at any depth inside
photos/train/Laysan Albatross/1.jpg …          the same inside of train, val and test
photos/labels.csv or .parquet                  path (from the table's folder), label; part (train, val, test) and
                                               half (base, novel) where there is no rule to follow

Class names are those of folders or labels, underscores read as blanks, in alphabetical order.
"""

import csv
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

import polars as pl

from pipeline.datasets import layout
from pipeline.datasets.settings import DataParams
from pipeline.datasets.source import Source
from pipeline.names import normalised
from pipeline.params import UserError

NAME = "folder"
NOUN = "object"
LICENCE = "Your own pictures."

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
TABLES = (".csv", ".parquet")
HALVES = ("base", "novel")
PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

File = tuple[str, str, str | None]
"""Path from the root, label, and part, None where there are no parts."""


def opened(place: Path, wanted: DataParams) -> Source:
    """The pictures of data.path. Raises UserError."""
    table = place if place.suffix.lower() in TABLES and not place.is_dir() else None
    if wanted.labels and table is None:
        table = place / wanted.labels
    root = place if table is None else table.parent
    if not root.is_dir():
        raise UserError(f"data.path: {place} is no folder and no table; set it with `dvc exp run -S data.path=…`")
    files, halves = (found(root), {}) if table is None else tabled(table)
    if not files:
        raise UserError(
            f"{place}: no pictures, wanted one folder a class with {', '.join(SUFFIXES)} files in it; "
            "set data.path, or data.labels to a table in it (docs/your-data.md)"
        )
    names = class_names(place, {label for _, label, _ in files})
    class_ids = {label: names.index(shown(label)) for _, label, _ in files}
    rows = [(path, class_ids[label], part or "") for path, label, part in files]
    if not any(part == "test" for _, _, part in rows):
        rows = layout.held_out(
            [(path, class_id, part or "train") for path, class_id, part in rows], wanted.test_share, wanted.seed
        )
    require_parts(place, rows)

    def pictures(paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        for path in paths:
            try:
                yield path, (root / path).read_bytes()
            except OSError as error:
                raise UserError(f"{root / path}: {error.strerror}; mend data.path and run the same again") from None

    return Source(
        name=NAME,
        names=names,
        rows=layout.table(rows, names),
        noun=NOUN,
        licence=LICENCE,
        pictures=pictures,
        aliases=other_names(root / wanted.aliases, names) if wanted.aliases else {},
        halves=[halves[name] for name in names] if halves else (),
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
            raise UserError(f"{place}: {what}; rename or merge them")
    if len(seen) < 2:
        raise UserError(f"{place}: one class, {shown(next(iter(labels)))!r}, wanted at least two; add another folder")
    return sorted((shown(label) for label in seen.values()), key=lambda name: (name.casefold(), name))


def found(root: Path) -> list[File]:
    """The pictures in the folders of `root`, hidden ones and links that lead out left alone."""
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    in_parts = bool(folders) and all(folder.name.lower() in PARTS for folder in folders)
    files: list[File] = []
    home, outside = root.resolve(), 0
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            inner = path.relative_to(root).parts
            if path.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in inner) or not path.is_file():
                continue
            if not path.resolve().is_relative_to(home):
                outside += 1
            elif not in_parts:
                files.append(("/".join(inner), inner[0], None))
            elif len(inner) > 2:
                files.append(("/".join(inner), inner[1], PARTS[inner[0].lower()]))
    if outside:
        print(f"{root}: {outside} links to pictures outside of it were left out")
    return files


def tabled(table: Path) -> tuple[list[File], dict[str, str]]:
    """The pictures that a table names, and the halves of the classes where it says them. Raises UserError."""
    try:
        read = pl.read_parquet(table) if table.suffix.lower() == ".parquet" else pl.read_csv(table, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = (str(error).strip().splitlines() or ["unreadable"])[0]
        raise UserError(f"{table}: cannot be read ({reason}), wanted a table of paths and labels; mend it") from None
    if lacking := [name for name in ("path", "label") if name not in read.columns]:
        raise UserError(f"{table}: no column {lacking[0]!r} among {', '.join(read.columns)}; name the columns so")
    files: list[File] = []
    halves: dict[str, str] = {}
    twice: set[str] = set()
    for number, row in enumerate(read.iter_rows(named=True), start=1):
        path, label = str(row["path"] or "").replace("\\", "/"), str(row["label"] or "")
        part, half = str(row.get("part") or ""), str(row.get("half") or "")
        pure = PurePosixPath(path)
        fault = None
        if not path or not label.strip():
            fault = "path or label is missing"
        elif pure.is_absolute() or ".." in pure.parts:
            fault = f"{path!r} leads out of {table.parent}"
        elif str(pure) in twice:
            fault = f"{path!r} stands there twice"
        elif ("part" in read.columns and part.lower() not in PARTS) or ("half" in read.columns and half not in HALVES):
            fault = f"part {part!r} and half {half!r}, wanted train, val or test, and base or novel"
        elif halves.setdefault(shown(label), half) != half:
            fault = f"class {label!r} is {halves[shown(label)]} in one row and {half} in another"
        if fault:
            raise UserError(f"{table}: row {number}: {fault}; mend it")
        twice.add(str(pure))
        files.append((str(pure), label, PARTS[part.lower()] if part else None))
    return files, halves if "half" in read.columns else {}


def require_parts(place: Path, rows: Sequence[layout.Row]) -> None:
    """Raises UserError where there is nothing to train on."""
    if not any(part == "train" for _, _, part in rows):
        raise UserError(f"{place}: no training images, wanted some; add a folder or rows with the part train")


def other_names(file: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Aliases by class name, from a CSV with the columns name and alias. Raises UserError."""
    by_name = {normalised(name): name for name in names}
    aliases: dict[str, list[str]] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: cannot be read ({error}), wanted a CSV of aliases; mend data.aliases") from None
    taken: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        name, alias = by_name.get(normalised(row.get("name") or "")), (row.get("alias") or "").strip()
        if name is None or not normalised(alias):
            raise UserError(f"{file}: line {number}: {row}, wanted the columns name (of a class) and alias; mend it")
        if taken.setdefault(normalised(alias), name) != name or by_name.get(normalised(alias), name) != name:
            raise UserError(f"{file}: line {number}: {alias!r} stands for two classes; keep one of them")
        aliases.setdefault(name, []).append(alias)
    return aliases
