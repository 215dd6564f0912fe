"""The splits of the protocols: CoOp's, the reference run's, and those that are drawn here."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping

from pipeline.datasets.metadata import Metadata

Row = tuple[str, int, str]
"""An image: its path in the data set's own folder, its 0-based class, its split (train, val or test)."""


def base_classes(count: int) -> int:
    """How many of `count` classes are base classes: the first half by label, the larger one."""
    return (count + 1) // 2


def cut(rows: Iterable[Row], seed: int) -> list[Row]:
    """80 % of each class as train, the rest as val, whatever splits the rows had.

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


def with_test_split(rows: Iterable[Row], share: float, seed: int) -> list[Row]:
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
    """What the reference used: train images of base classes, and the splits that it tested on, named test."""
    base = base_classes(classes)
    split_of = {(True, "train"): "train", (True, base_test): "test", (False, novel_test): "test"}
    return [
        (path, class_id, split_of[class_id < base, split])
        for path, class_id, split in rows
        if (class_id < base, split) in split_of
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
    duplicates = [path for path, times in Counter(path for path, _, _ in rows).items() if times > 1]
    if duplicates:
        raise file.fault(f"image {duplicates[0]!r} twice", "each image once")
    return rows
