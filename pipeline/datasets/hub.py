"""A data set of the Hugging Face hub: a mirror of an official one, or any other with images and labels for `folder`.

A mirror has no file names that CoOp's split could be matched to, so its own splits are used, and must have as many
images as the official ones. Classes are identified by their names, in whatever order the mirror has them.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.datasets import layout, protocols
from pipeline.datasets.folder import NOUN, class_names
from pipeline.datasets.hub_loading import HubFault, load_hub
from pipeline.datasets.label_table import class_name
from pipeline.datasets.official import Official
from pipeline.datasets.params import DataParams
from pipeline.datasets.source import Source
from pipeline.method.class_names import Matcher

# Images of the official splits.
COUNTS = {
    "flowers": {"train": 1020, "val": 1020, "test": 6149},
    "pets": {"train": 3680, "test": 3669},
    "cars": {"train": 8144, "test": 8041},
    "aircraft": {"train": 3334, "val": 3333, "test": 3333},
    "cub": {"train": 5994, "test": 5794},
}
LABELS = ("label", "labels", "class", "fine_label", "variant")
Label = str | int


def open_source(params: DataParams, dataset: Official | None, name: str) -> Source:
    """The data set that data.hub names, as `name`; `dataset` is the official one that it mirrors. Raises UserError."""
    fault = HubFault(params.hub)
    if dataset is not None and params.protocol != "official":
        raise fault(f"data.protocol {params.protocol}", "official", "set it with `dvc exp run -S data.protocol=…`")
    hub_splits, splits, licence = load_hub(params.hub, dataset is not None, fault)
    image, label = _columns(next(iter(hub_splits.values())).features, fault)
    labels_of = {hub_split: _labels(hub_split, rows, label, fault) for hub_split, rows in hub_splits.items()}
    labels = {label for hub_labels in labels_of.values() for label in hub_labels}
    if dataset is None:
        words = [label for label in labels if isinstance(label, str)]
        if len(words) < len(labels):
            raise fault(f"numbers without names in the column {label}", "names of the classes")
        names, aliases = class_names(Path(params.hub), words), {}
        class_ids: Mapping[Label, int] = {label: names.index(class_name(label)) for label in words}
    else:
        table = layout.class_table(name)
        names, aliases = [own for _, own, _ in table], {own: others for _, own, others in table}
        class_ids = _match_classes(labels, names, aliases, fault)
    rows = [
        (f"{hub_split}/{row:06}", class_ids[label], splits[hub_split])
        for hub_split, hub_labels in labels_of.items()
        for row, label in enumerate(hub_labels)
    ]
    if dataset is not None:
        _require_counts(rows, COUNTS[name], fault)
    elif not any(split == "test" for *_, split in rows):
        rows = protocols.with_test_split(rows, params.test_share, params.seed)
    raw = {hub_split: _as_stored(rows, image) for hub_split, rows in hub_splits.items()}

    def pictures(paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        for path in sorted(paths):  # in the order of the files, which are mapped and not held in memory
            hub_split, _, row = path.rpartition("/")
            yield path, _content(raw[hub_split][int(row)][image], path, fault)

    return Source(
        name=name,
        names=names,
        rows=layout.table(rows, names),
        noun=NOUN if dataset is None else dataset.NOUN,
        licence=licence if dataset is None else dataset.LICENCE,
        pictures=pictures,
        aliases=aliases,
        groups=[] if dataset is None else layout.class_groups(name),
        crop_bottom=0 if dataset is None else dataset.CROP_BOTTOM,
    )


def _columns(features: Any, fault: HubFault) -> tuple[str, str]:
    """Names of the image column and of the label column."""
    from datasets import ClassLabel, Image

    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    labels = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    if len(labels) != 1:
        kinds = ("string", "large_string", "int", "uint")
        plain = [name for name, feature in features.items() if str(getattr(feature, "dtype", "")).startswith(kinds)]
        labels = [name for name in LABELS if name in (labels or plain)]
    if len(images) != 1 or len(labels) != 1:
        raise fault(f"the columns {', '.join(features)}", "one column of images, and one of labels")
    return images[0], labels[0]


def _labels(hub_split: str, rows: Any, column: str, fault: HubFault) -> list[Label]:
    """The label of every row, in words where it has any."""
    names = getattr(rows.features[column], "names", None)
    values: list[Label | None] = rows[column][:]
    for row, value in enumerate(values):
        if value is None or value in ("", -1):  # -1 stands for a label that is kept back
            raise fault(f"no label in {hub_split}/{row:06}", "one in every row")
    return [names[value] for value in values] if names else values  # type: ignore[return-value]


def _match_classes(
    labels: Collection[Label], names: list[str], aliases: Mapping[str, Sequence[str]], fault: HubFault
) -> dict[Label, int]:
    """The official class of each label: all of them, each by one label. Numbers must be the official ones."""
    if set(labels) == set(range(len(names))):
        return {label: int(label) for label in labels}
    matcher = Matcher(names, {alias: name for name, others in aliases.items() for alias in others})
    hub_labels: dict[Label, int] = {}
    for label in sorted(labels, key=str):
        class_id = matcher.match(class_name(label)) if isinstance(label, str) else None
        if class_id is None or class_id in hub_labels.values():
            raise fault(f"the class {label!r}", "each of the official classes once")
        hub_labels[label] = class_id
    if missing := sorted(set(range(len(names))) - set(hub_labels.values())):
        raise fault(f"no class {names[missing[0]]!r}", f"all {len(names)} official classes")
    return hub_labels


def _require_counts(rows: Sequence[protocols.Row], params: Mapping[str, int], fault: HubFault) -> None:
    hub_labels = {split: sum(row[2] == split for row in rows) for split in ("train", "val", "test")}
    hub_labels = {split: count for split, count in hub_labels.items() if count}
    if hub_labels != params:
        label = [", ".join(f"{count:,} {split}" for split, count in counts.items()) for counts in (hub_labels, params)]
        raise fault(f"{label[0]} images", f"the official {label[1]}")


def _as_stored(rows: Any, column: str) -> Any:
    """The images alone, as bytes and not opened."""
    from datasets import Image

    return rows.select_columns([column]).cast_column(column, Image(decode=False))


def _content(value: Any, path: str, fault: HubFault) -> bytes:
    try:
        return bytes(value["bytes"] or Path(value["path"]).read_bytes())
    except (TypeError, OSError):
        raise fault(f"no image in {path}", "one in every row") from None
