"""A data set of the Hugging Face hub: a mirror of an official one, or any other with images and labels for `folder`.

A mirror has no file names to find CoOp's split by, so its own parts are used, and must have as many images as the
official ones. Classes are told by their names, in whatever order the mirror has them.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from pipeline.datasets import layout
from pipeline.datasets.folder import NAME as FOLDER
from pipeline.datasets.folder import PARTS, class_names, shown
from pipeline.datasets.official import Official
from pipeline.datasets.settings import DataParams
from pipeline.datasets.source import Source
from pipeline.names import Matcher
from pipeline.params import UserError

# Images of the official parts.
COUNTS = {
    "flowers": {"train": 1020, "val": 1020, "test": 6149},
    "pets": {"train": 3680, "test": 3669},
    "cars": {"train": 8144, "test": 8041},
    "aircraft": {"train": 3334, "val": 3333, "test": 3333},
    "cub": {"train": 5994, "test": 5794},
}
LABELS = ("label", "labels", "class", "fine_label", "variant")


def opened(wanted: DataParams, dataset: Official | None) -> Source:
    """The data set that data.hub names; `dataset` is the official one that it mirrors, if it does. Raises UserError."""
    fault = _Fault(wanted.hub)
    if dataset is not None and wanted.protocol != "official":
        raise fault(f"data.protocol is {wanted.protocol}", "official, the only one that a mirror knows")
    splits = {name: _with_bytes(split) for name, split in _loaded(wanted.hub, fault).items()}
    features = next(iter(splits.values())).features
    image_column, label_column = _columns(features, fault)
    told = {name: _labels(split, label_column) for name, split in splits.items()}
    labels = {label for found in told.values() for label in found}
    if dataset is None:
        names = class_names(Path(wanted.hub), labels)
        aliases: dict[str, list[str]] = {}
        class_ids = {label: names.index(shown(label)) for label in labels}
    else:
        table = layout.class_table(dataset.NAME)
        names, aliases = [name for _, name, _ in table], {name: others for _, name, others in table}
        class_ids = _matched(labels, names, aliases, fault)
    places: dict[str, tuple[str, int]] = {}
    rows: list[layout.Row] = []
    for name, found in told.items():
        if name.lower() not in PARTS:
            raise fault(f"a split {name!r}", "train, validation and test")
        for row, label in enumerate(found):
            path = f"{name}/{row:06}"
            places[path] = name, row
            rows.append((path, class_ids[label], PARTS[name.lower()]))
    if dataset is not None:
        _require_counts(rows, COUNTS[dataset.NAME], fault)
    elif not any(part == "test" for *_, part in rows):
        rows = layout.held_out(rows, wanted.test_share, wanted.seed)

    def pictures(paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        for path in sorted(paths, key=places.__getitem__):
            split, row = places[path]
            yield path, _content(splits[split][row][image_column], path, fault)

    return Source(
        name=FOLDER if dataset is None else dataset.NAME,
        names=names,
        rows=layout.table(rows, names),
        noun="object" if dataset is None else dataset.NOUN,
        licence=f"{wanted.hub}: the licence stands in its card on the hub." if dataset is None else dataset.LICENCE,
        pictures=pictures,
        aliases=aliases,
        crop_bottom=0 if dataset is None else dataset.CROP_BOTTOM,
    )


class _Fault:
    """Makes the sentence about a data set of the hub that is not what was wanted."""

    def __init__(self, hub: str):
        self.hub = hub

    def __call__(self, found: str, wanted: str) -> UserError:
        return UserError(f"data.hub {self.hub}: found {found}, wanted {wanted}; name another one, or set data.path")


def _loaded(hub: str, fault: _Fault) -> Any:
    """All splits of owner/name@revision; the files stay in the hub's cache."""
    from datasets import load_dataset

    name, _, revision = hub.partition("@")
    try:
        return load_dataset(name, revision=revision or None)
    # What goes wrong on the way to the hub has many names: no network, no such id, gated, a script, damaged files.
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise fault(
            f"{type(error).__name__}: {said}", "a data set that can be loaded, as owner/name@revision"
        ) from error


def _with_bytes(split: Any) -> Any:
    """`split` with its images as they are in the files, not opened."""
    from datasets import Image

    for name, feature in split.features.items():
        if isinstance(feature, Image):
            split = split.cast_column(name, Image(decode=False))
    return split


def _columns(features: Any, fault: _Fault) -> tuple[str, str]:
    """Names of the image column and of the label column."""
    from datasets import ClassLabel, Image

    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    labels = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    if len(labels) != 1:
        among = labels or [name for name, feature in features.items() if getattr(feature, "dtype", "") == "string"]
        labels = [name for name in LABELS if name in among][:1]
    if len(images) != 1 or len(labels) != 1:
        raise fault(f"the columns {', '.join(features)}", "one column of images, and one of labels with names")
    return images[0], labels[0]


def _labels(split: Any, column: str) -> list[str]:
    """The label of every row, in words."""
    feature = split.features[column]
    values = split[column]
    return [str(feature.int2str(value)) if hasattr(feature, "int2str") else str(value) for value in values]


def _matched(labels: Collection[str], names: list[str], aliases: dict[str, list[str]], fault: _Fault) -> dict[str, int]:
    """The official class of each label: all of them, each by one label."""
    matcher = Matcher(names, {alias: name for name, others in aliases.items() for alias in others})
    found: dict[str, int] = {}
    for label in sorted(labels):
        class_id = matcher.match(shown(label))
        if class_id is None or class_id in found.values():
            raise fault(f"the class {label!r}", "each of the official classes once")
        found[label] = class_id
    if missing := sorted(set(range(len(names))) - set(found.values())):
        raise fault(f"no class {names[missing[0]]!r}", f"all {len(names)} official classes")
    return found


def _require_counts(rows: list[layout.Row], wanted: dict[str, int], fault: _Fault) -> None:
    found = {part: sum(row[2] == part for row in rows) for part in ("train", "val", "test")}
    found = {part: count for part, count in found.items() if count}
    if found != wanted:
        said = [", ".join(f"{count:,} {part}" for part, count in counts.items()) for counts in (found, wanted)]
        raise fault(f"{said[0]} images", f"the official {said[1]}")


def _content(value: Any, path: str, fault: _Fault) -> bytes:
    if value and value.get("bytes"):
        return bytes(value["bytes"])
    if value and value.get("path"):
        return Path(value["path"]).read_bytes()
    raise fault(f"no image in {path}", "one in every row")
