"""What the readers of official data sets share: metadata files, CoOp's splits, the cut, and the table of images."""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.core.params import UserError
from pipeline.datasets.fetching import Archive

PROTOCOLS = ("official", "coop", "paper")

SCHEMA = pl.Schema(
    {"path": pl.String, "class_id": pl.Int64, "class_name": pl.String, "subset": pl.String, "split": pl.String}
)

COOP = (
    "CoOp's DATASETS.md (github.com/KaiyangZhou/CoOp) links to it: put it, under this name, into the folder data.path"
)


@dataclass(frozen=True)
class Published:
    """A file that a data set's authors publish; without a URL where they no longer do.

    Attributes:
        unpacked: any of these paths is there where the file was unpacked; a file that is no archive shows itself.
        optional: a protocol can do without it.
    """

    archive: Archive
    unpacked: tuple[str, ...]
    optional: bool = False

    @property
    def packed(self) -> bool:
        return self.archive.name not in self.unpacked


Row = tuple[str, int, str]
"""An image: its path in the data set's own folder, its 0-based class, its part (train, val or test)."""


@dataclass(frozen=True)
class Metadata:
    """A metadata file, and the words that say where to get it. All methods raise UserError with the file's name."""

    file: Path
    origin: str

    def fault(self, found: str, wanted: str) -> UserError:
        return UserError(f"{self.file}: {found}, wanted {wanted}; {self.origin}")

    def content(self) -> bytes:
        try:
            return self.file.read_bytes()
        except FileNotFoundError:
            raise self.fault("not found", "this file of the official data set") from None
        except OSError as error:
            raise self.fault(f"cannot be read ({error.strerror})", "a file") from None

    def lines(self) -> list[str]:
        """Lines without outer blanks; empty lines and comments (#) are left out."""
        try:
            stripped = [line.strip() for line in self.content().decode().splitlines()]
        except UnicodeDecodeError as error:
            raise self.fault(f"not UTF-8 text ({error.reason})", "a text file") from None
        kept = [line for line in stripped if line and not line.startswith("#")]
        if not kept:
            raise self.fault("no lines", "one line for each image or class")
        return kept

    def keyed(self, form: str) -> dict[str, list[str]]:
        """Lines of the fields that `form` names, by the first field. Only the last field may hold blanks."""
        count = len(form.split())
        table: dict[str, list[str]] = {}
        for line in self.lines():
            first, *rest = line.split(maxsplit=count - 1)
            if len(rest) != count - 1:
                raise self.fault(f"the line {line!r}", f"{count} fields, {form}")
            if first in table:
                raise self.fault(f"{first!r} on two lines", "one line each")
            table[first] = rest
        return table

    def json(self) -> Any:
        try:
            return json.loads(self.content())
        except ValueError as error:
            raise self.fault(f"not valid JSON ({error})", "the whole file") from None

    def mat(self, *names: str) -> list[Any]:
        """The MATLAB arrays of these names, flattened."""
        import io

        from scipy.io import loadmat

        content = io.BytesIO(self.content())
        try:
            found = loadmat(content)
        # A cut file ends in whatever error the bytes lead to: ValueError, TypeError, zlib.error, MatReadError …
        except Exception as error:
            raise self.fault(f"not a whole MATLAB file ({error})", "the official one") from None
        for name in names:
            if name not in found:
                raise self.fault(f"no array {name!r}", f"the arrays {', '.join(names)}")
        return [found[name].ravel() for name in names]

    def label(self, value: object, count: int, of: str) -> int:
        """A 1-based label as a 0-based class."""
        text = str(value)
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= count):
            raise self.fault(f"class {text!r} of {of}", f"a whole number from 1 to {count}")
        return int(text) - 1

    def covers(self, found: Collection[str], wanted: Collection[str], of: str) -> None:
        """UserError unless this file names each of `wanted` once, and nothing else."""
        twice = [key for key, times in Counter(list(found)).items() if times > 1]
        unknown, missing = sorted(set(found) - set(wanted)), sorted(set(wanted) - set(found))
        if twice or unknown:
            raise self.fault(f"{twice[0]!r} twice" if twice else f"unknown {of} {unknown[0]!r}", f"each {of} once")
        if missing:
            raise self.fault(f"{len(missing)} missing, first {of} {missing[0]!r}", f"all {len(wanted)}")


def folder(root: Path, holding: str, *inner: str) -> Path:
    """The first of root/inner that has the file `holding`; where none has, the first, for the message that follows."""
    places = [root / place for place in inner]
    return next((place for place in places if (place / holding).is_file()), places[0])


def checked(protocol: str, name: str, known: Sequence[str] = PROTOCOLS) -> None:
    """UserError for a protocol that the data set does not have."""
    if protocol not in known:
        found = "CoOp has no split file of it" if protocol in PROTOCOLS else f"no protocol {protocol!r}"
        raise UserError(f"{name}: {found}, wanted one of {', '.join(known)}; ask for another protocol")


def class_table(name: str) -> list[tuple[int, str, list[str]]]:
    """Our own table of a data set's classes, names/<name>.csv: class_id from 0, name, aliases. Raises UserError."""
    tables = {table.stem: table for table in sorted((Path(__file__).parent / "names").glob("*.csv"))}
    if name not in tables:
        raise UserError(f"no names of a data set {name!r}, wanted one of {', '.join(tables)}; ask for another data set")
    with tables[name].open(encoding="utf-8", newline="") as file:
        return [
            (int(row["class_id"]), row["name"], [alias for alias in row["aliases"].split("|") if alias])
            for row in csv.DictReader(file)
        ]


def base_classes(count: int) -> int:
    """How many of `count` classes are base classes: the first half by label, the larger one."""
    return (count + 1) // 2


def cut(rows: Iterable[Row], seed: int) -> list[Row]:
    """80 % of each class as train, the rest as val, whatever parts the rows had.

    The reference's own draw is unknown. Ours ranks the images of a class by a hash of seed and path, so that it depends
    neither on the order of the rows nor on the other images' classes. The counts are the reference's.
    """
    by_class: dict[int, list[str]] = {}
    for path, class_id, _ in rows:
        by_class.setdefault(class_id, []).append(path)
    split_rows = []
    for class_id, paths in by_class.items():
        paths.sort(key=lambda path: hashlib.blake2b(f"{seed}/{path}".encode()).digest())
        train = round(len(paths) * 0.8)
        split_rows += [(path, class_id, "train" if rank < train else "val") for rank, path in enumerate(paths)]
    return split_rows


def held_out(rows: Iterable[Row], share: float, seed: int) -> list[Row]:
    """`rows` with a share of each class's training images as test: at least one and at most all but one of them."""
    split_rows = list(rows)
    by_class: dict[int, list[str]] = {}
    for path, class_id, split in split_rows:
        if split == "train":
            by_class.setdefault(class_id, []).append(path)
    test: set[str] = set()
    for paths in by_class.values():
        paths.sort(key=lambda path: hashlib.blake2b(f"test {seed}/{path}".encode()).digest())
        count = min(len(paths) - 1, max(1, round(len(paths) * share)))
        test.update(paths[:count])
    return [(path, class_id, "test" if path in test else split) for path, class_id, split in split_rows]


def paper(rows: Iterable[Row], classes: int, *, base_test: str, novel_test: str) -> list[Row]:
    """What the reference used: train images of base classes, and the parts that it tested on, named test."""
    base = base_classes(classes)
    wanted = {(True, "train"): "train", (True, base_test): "test", (False, novel_test): "test"}
    return [
        (path, class_id, wanted[class_id < base, split])
        for path, class_id, split in rows
        if (class_id < base, split) in wanted
    ]


def coop(file: Metadata, labels: Mapping[str, int | None], classes: int, inside: str = "") -> list[Row]:
    """CoOp's split: {"train": [[path, 0-based label, name], …], "val": …, "test": …}.

    Args:
        labels: official class of each image; None where the official files hold none.
        inside: folder that CoOp's paths leave out, with its slash.
    """
    splits = file.json()
    if not isinstance(splits, dict) or not all(
        isinstance(splits.get(split), list) for split in ("train", "val", "test")
    ):
        raise file.fault("other keys", "the lists train, val and test")
    rows = []
    for split in ("train", "val", "test"):
        for item in splits[split]:
            if not (isinstance(item, list) and [type(value) for value in item] == [str, int, str]):
                raise file.fault(f"{item!r} in {split}", "path, 0-based label and class name")
            path, class_id = inside + item[0], item[1]
            if path not in labels:
                raise file.fault(f"unknown image {item[0]!r}", "images of the official data set")
            official = labels[path]
            if not 0 <= class_id < classes:
                raise file.fault(f"label {class_id} of {item[0]!r}", f"a whole number from 0 to {classes - 1}")
            if official not in (None, class_id):
                raise file.fault(f"label {class_id} of {item[0]!r}", f"the official one, {official}")
            rows.append((path, class_id, split))
    twice = [path for path, times in Counter(path for path, _, _ in rows).items() if times > 1]
    if twice:
        raise file.fault(f"image {twice[0]!r} twice", "each image once")
    return rows


def table(rows: Iterable[Row], names: Sequence[str], prefix: Path = Path()) -> pl.DataFrame:
    """Rows of SCHEMA, sorted by class and path; `prefix` is the way from the root to the data set's own folder."""
    base = base_classes(len(names))
    full = [
        ((prefix / path).as_posix(), class_id, names[class_id], "base" if class_id < base else "novel", split)
        for path, class_id, split in rows
    ]
    return pl.DataFrame(full, schema=SCHEMA, orient="row").sort("class_id", "path")
