"""Your own photos: one folder a class, or a table of paths and labels.

photos/Laysan Albatross/1.jpg …                one folder a class; picture_folders.py has the other layouts
photos/labels.csv or .parquet                  path (from the table's folder) and label; optional split (train,
                                               val, test), subset (base, novel) and group (of classes that are
                                               mistaken alike, such as a genus)

Class names are those of folders or labels, underscores read as blanks, in alphabetical order.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from pipeline.core.params import UserError
from pipeline.core.terminal import printable
from pipeline.core.words import counted
from pipeline.datasets import layout, protocols
from pipeline.datasets.formats import SUFFIXES
from pipeline.datasets.label_table import CHECK, CHECK_AGAIN, TABLES, class_name, read_aliases, read_label_table
from pipeline.datasets.params import DataParams
from pipeline.datasets.picture_folders import find_pictures
from pipeline.datasets.source import Source
from pipeline.method.spelling import normalised

NAME = "folder"
NOUN = "object"
LICENCE = "Your own pictures."

LONGEST_NAME = 200  # characters of a class name


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
        _require_not_a_copy(place)
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
        missing=frozenset() if table is None else _missing(root, [path for path, *_ in files]),
        aliases=read_aliases((place if place.is_dir() else root) / params.aliases, names) if params.aliases else {},
        groups=[groups[name] for name in names] if groups else (),
        subsets=[subsets[name] for name in names] if subsets else (),
    )


def _missing(root: Path, paths: Sequence[str]) -> frozenset[str]:
    """Paths that are no file inside of `root`. Raises UserError for one that leads out through a link."""
    home = root.resolve()
    missing = set()
    for path in paths:
        file = root / path
        if not file.is_file():  # nor a device or a pipe, which may have no end
            missing.add(path)
        elif not file.resolve().is_relative_to(home):
            raise UserError(f"{file}: a link leads out of {root}; copy what it leads to, then `dvc repro`")
    return frozenset(missing)


def _require_not_a_copy(place: Path) -> None:
    """Raises UserError in a copy of the project that DVC made, where files that git ignores are not."""
    project = Path(os.environ.get("DVC_ROOT", "."))
    if not place.is_absolute() and project.resolve() != Path.cwd():
        raise UserError(
            f"{place}: no pictures in this copy of the project, in which DVC runs queued and --temp experiments and "
            f"which has only files that git tracks; set the whole path, `-S 'data.path={project.resolve() / place}'`"
        )


def class_names(place: Path, labels: Collection[str]) -> list[str]:
    """The classes in alphabetical order. UserError if two labels are the same name, or there is one class."""
    label_of: dict[str, str] = {}
    for label in sorted(labels):
        name, what = class_name(label), ""
        other = label_of.setdefault(normalised(name), label)
        if other != label:
            what = f"{other!r} and {label!r} are the same class name"
        elif not normalised(label) or printable(name) != name:
            what = f"{label!r} is no class name"
        elif len(name) > LONGEST_NAME:
            what = f"a class name of {counted(len(name), 'character')}, expected at most {LONGEST_NAME}: {name[:40]!r}…"
        if what:
            raise UserError(f"{place}: {what}; rename or merge them, then {CHECK}")
    if len(label_of) < 2:
        raise UserError(
            f"{place}: one class, {class_name(next(iter(labels)))!r}, expected at least two; add one, then `dvc repro`"
        )
    return sorted((class_name(label) for label in label_of.values()), key=lambda name: (name.casefold(), name))


def require_training_images(place: Path, rows: Sequence[protocols.Row]) -> None:
    """Raises UserError where there is nothing to train on."""
    if not any(split == "train" for _, _, split in rows):
        raise UserError(
            f"{place}: no training images; add a folder train, or rows with the split train, then `dvc repro`"
        )
