"""Pictures in folders: which folder is a class and which a split, and how many files are not read.

photos/Laysan Albatross/1.jpg …                one folder a class, images at any depth inside
photos/train/Laysan Albatross/1.jpg …          the same inside of train, val and test
photos/Laysan Albatross/train/1.jpg …          or train, val and test inside of each class
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.params import UserError
from pipeline.core.terminal import printable
from pipeline.core.words import some
from pipeline.datasets.formats import is_read, unread_line
from pipeline.datasets.label_table import CHECK, TABLES, File
from pipeline.datasets.split_names import split_of

SHOWN = 5  # names in one line
SYSTEM_FOLDERS = ("__macosx", "$recycle.bin", "system volume information", "@eadir", "lost+found", "#recycle")

Parts = tuple[str, ...]
"""A path from the root."""


@dataclass
class _Walk:
    """What lies below a folder; `skipped` counts pictures by reason, `unread` other files by suffix."""

    pictures: list[Parts] = field(default_factory=list)
    folders: list[Parts] = field(default_factory=list)
    links: list[str] = field(default_factory=list)  # to folders
    skipped: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)


def find_pictures(root: Path) -> list[File]:
    """The pictures in the class folders of `root`; prints what is skipped, and why. Raises UserError."""
    walk = _walk(root)
    files = _files(root, walk)
    used = {parts[:depth] for parts in map(_parts, files) for depth in range(1, len(parts))}
    class_depth = 2 if any(split_of(parts[0]) for parts in used) else 1
    empty = [folder[-1] for folder in walk.folders if len(folder) == class_depth and folder not in used]
    lines = [f"pictures skipped, {why}: {count}" for why, count in walk.skipped.items()]
    if walk.links:
        lines.append(f"links to folders, which are not followed: {_some(walk.links)}; copy what they lead to")
    if walk.unread:
        lines.append(unread_line(walk.unread))
    if empty and files:
        lines.append(f"folders without a picture, which are no classes: {_some(empty)}")
    for line in lines:
        print(printable(f"{root}: {line}"))
    return files


def _parts(file: File) -> Parts:
    return tuple(file[0].split("/"))


def _some(names: Sequence[str]) -> str:
    return some([repr(name) for name in names], SHOWN)


def _walk(root: Path) -> _Walk:
    """Everything below `root`, sorted; links to folders are not followed."""

    def fail(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); make it readable, then {CHECK}")

    walk, home = _Walk(), root.resolve()
    for place, folders, names in os.walk(root, onerror=fail):
        above = Path(place).relative_to(root).parts
        links = [name for name in folders if Path(place, name).is_symlink()]
        walk.links += ["/".join((*above, name)) for name in sorted(links) if not name.startswith(".")]
        # What a hidden folder of the root holds (.git, .dvc) is not even looked at.
        at_root = not above
        folders[:] = sorted(
            name
            for name in set(folders) - set(links)
            if name.casefold() not in SYSTEM_FOLDERS and not (at_root and name.startswith("."))
        )
        walk.folders += [(*above, name) for name in folders if not any(part[0] == "." for part in (*above, name))]
        for name in sorted(names):
            _add(walk, Path(place, name), (*above, name), home)
    return walk


def _add(walk: _Walk, path: Path, parts: Parts, home: Path) -> None:
    suffix, hidden = path.suffix.lower(), any(part.startswith(".") for part in parts)
    if len(parts) == 1 and suffix in TABLES:  # tables of labels and of aliases
        return
    if not is_read(suffix):
        walk.unread.update([] if hidden else [suffix])
    elif hidden:
        walk.skipped["hidden"] += 1
    elif not path.is_file():
        walk.skipped["links that lead to no file" if path.is_symlink() else "no regular files"] += 1
    elif not path.resolve().is_relative_to(home):
        walk.skipped["behind links that lead outside"] += 1
    elif any("\ud800" <= character <= "\udfff" for part in parts for character in part):
        walk.skipped["whose names are no text in this locale"] += 1
    else:
        walk.pictures.append(parts)


def _files(root: Path, walk: _Walk) -> list[File]:
    """Path, label and split of each picture, by the layout that the folders have. Raises UserError."""
    inside = [parts for parts in walk.pictures if len(parts) > 1]
    top = sorted({parts[0] for parts in inside})
    splits = [name for name in top if split_of(name)]
    if 0 < len(splits) < len(top):
        others = [name for name in top if name not in splits]
        raise UserError(
            f"{root}: some folders are named after splits ({_some(splits)}) and some are not ({_some(others)}); move "
            f"the latter away if they are no splits, or rename the former if they are classes, then {CHECK}"
        )
    depth = 2 if splits else 1  # folders over a picture: its split's, its class's
    files: list[File] = [
        ("/".join(parts), parts[depth - 1], split_of(parts[0])) for parts in inside if len(parts) > depth
    ]
    if outside := len(walk.pictures) - len(files):
        walk.skipped["in no class folder"] = outside
    if not splits:
        files = _with_splits_of_classes(root, files)
        _require_no_wrapper(root, inside)
    return files


def _with_splits_of_classes(root: Path, files: list[File]) -> list[File]:
    """`files` with the splits of folders inside of the classes, where all pictures lie in such folders."""
    inner = [(parts[1], split_of(parts[1])) if len(parts := _parts(file)) > 2 else ("", None) for file in files]
    if not any(split for _, split in inner):
        return files
    if odd := [file[0] for file, (_, split) in zip(files, inner, strict=True) if not split]:
        name = next(name for name, split in inner if split)
        raise UserError(
            f"{root}: some classes have folders named after splits, such as {name!r}, and {odd[0]!r} lies in none; "
            f"move it into one, or rename these folders, then {CHECK}"
        )
    return [(path, label, split) for (path, label, _), (_, split) in zip(files, inner, strict=True)]


def _require_no_wrapper(root: Path, inside: Sequence[Parts]) -> None:
    """Raises UserError where one folder holds all others: an archive unpacked into a folder of its own name."""
    depth = 0
    while len({parts[: depth + 1] for parts in inside}) == 1 and all(len(parts) > depth + 2 for parts in inside):
        depth += 1
    below = sorted({parts[depth] for parts in inside}) if depth else []
    if below:
        around = Path(*inside[0][:depth])
        raise UserError(
            f"{root}: one folder, {str(around)!r}, which holds all others ({_some(below)}); if these are the classes "
            f"or splits: `dvc exp run -S 'data.path={root / around}'`"
        )
