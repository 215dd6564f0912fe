"""A data set of the Hugging Face hub: a mirror of an official one, or any other with images and labels for `folder`.

A mirror has no file names to find CoOp's split by, so its own parts are used, and must have as many images as the
official ones. Classes are told by their names, in whatever order the mirror has them.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.core.params import UserError
from pipeline.datasets import layout
from pipeline.datasets.folder import NOUN, SPLITS, class_names, shown
from pipeline.datasets.official import Official
from pipeline.datasets.params import DataParams
from pipeline.datasets.source import Source
from pipeline.method.class_names import Matcher

# Images of the official parts.
COUNTS = {
    "flowers": {"train": 1020, "val": 1020, "test": 6149},
    "pets": {"train": 3680, "test": 3669},
    "cars": {"train": 8144, "test": 8041},
    "aircraft": {"train": 3334, "val": 3333, "test": 3333},
    "cub": {"train": 5994, "test": 5794},
}
LABELS = ("label", "labels", "class", "fine_label", "variant")
ANOTHER = "name another one with `dvc exp run -S data.hub=owner/name@revision`, or set data.path"
# What `datasets` says where it cannot load a data set → what to do about it.
REMEDIES = {
    "cascade": "ask for access on the page of {name}, then `hf auth login` and `dvc repro`",
    "scripts": "try the hub's own copy with `dvc exp run -S data.hub={name}@refs/convert/parquet`, or set data.path",
    "Couldn't reach": "go online and `dvc repro`, or set data.path",
}

Label = str | int


class _Fault:
    """Makes the sentence about a data set of the hub that is not what was wanted."""

    def __init__(self, hub: str):
        self.hub = hub

    def __call__(self, found: str, wanted: str, then: str = ANOTHER) -> UserError:
        return UserError(f"data.hub {self.hub}: found {found}, wanted {wanted}; {then}")


def opened(wanted: DataParams, dataset: Official | None, name: str) -> Source:
    """The data set that data.hub names, as `name`; `dataset` is the official one that it mirrors. Raises UserError."""
    fault = _Fault(wanted.hub)
    if dataset is not None and wanted.protocol != "official":
        raise fault(f"data.protocol {wanted.protocol}", "official", "set it with `dvc exp run -S data.protocol=…`")
    hub_splits, splits, licence = _loaded(wanted.hub, dataset is not None, fault)
    image, label = _columns(next(iter(hub_splits.values())).features, fault)
    told = {hub_split: _labels(hub_split, rows, label, fault) for hub_split, rows in hub_splits.items()}
    labels = {said for found in told.values() for said in found}
    if dataset is None:
        words = [said for said in labels if isinstance(said, str)]
        if len(words) < len(labels):
            raise fault(f"numbers without names in the column {label}", "names of the classes")
        names, aliases = class_names(Path(wanted.hub), words), {}
        class_ids: Mapping[Label, int] = {said: names.index(shown(said)) for said in words}
    else:
        table = layout.class_table(name)
        names, aliases = [own for _, own, _ in table], {own: others for _, own, others in table}
        class_ids = _matched(labels, names, aliases, fault)
    rows = [
        (f"{hub_split}/{row:06}", class_ids[said], splits[hub_split])
        for hub_split, found in told.items()
        for row, said in enumerate(found)
    ]
    if dataset is not None:
        _require_counts(rows, COUNTS[name], fault)
    elif not any(split == "test" for *_, split in rows):
        rows = layout.held_out(rows, wanted.test_share, wanted.seed)
    stored = {hub_split: _as_stored(rows, image) for hub_split, rows in hub_splits.items()}

    def pictures(paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        for path in sorted(paths):  # in the order of the files, which are mapped and not held in memory
            hub_split, _, row = path.rpartition("/")
            yield path, _content(stored[hub_split][int(row)][image], path, fault)

    return Source(
        name=name,
        names=names,
        rows=layout.table(rows, names),
        noun=NOUN if dataset is None else dataset.NOUN,
        licence=licence if dataset is None else dataset.LICENCE,
        pictures=pictures,
        aliases=aliases,
        crop_bottom=0 if dataset is None else dataset.CROP_BOTTOM,
    )


def _loaded(hub: str, official: bool, fault: _Fault) -> tuple[Mapping[str, Any], dict[str, str], str]:
    """Rows by split, the part of each split, and the licence. The files stay in the hub's cache."""
    from datasets import load_dataset_builder

    name, _, revision = hub.partition("@")
    with _in_a_sentence(name, fault):
        builder = load_dataset_builder(name, revision=revision or None)
        files = {
            str(hub_split): found
            for hub_split, found in (builder.config.data_files or builder.info.splits or {}).items()
        }
    commit = builder.hash if builder.repo_id else None
    # Offline the library takes what was cached last, whatever the revision asked for.
    if commit and re.fullmatch("[0-9a-f]{40}", revision) and commit != revision:
        raise fault(f"only the commit {commit} in the cache", "this one", "go online and `dvc repro`")
    if commit:
        print(f"{name}: commit {commit}")
    splits = _parts(list(files), official, fault)
    with _in_a_sentence(name, fault):
        if others := [hub_split for hub_split in files if hub_split not in splits]:
            print(f"{name}: left out the splits {', '.join(others)}")
            kept = {
                hub_split: list(files[hub_split]) for hub_split in splits
            }  # the others are gigabytes that nobody needs
            builder = load_dataset_builder(name, revision=commit or revision or None, data_files=kept)
        # The card counts the splits that were left out too.
        builder.download_and_prepare(verification_mode="no_checks" if others else "basic_checks")
        return builder.as_dataset(), splits, _licence(name, builder)


@contextmanager
def _in_a_sentence(name: str, fault: _Fault) -> Iterator[None]:
    """What goes wrong on the way to the hub has many types: no network, no such id, gated, a script, damaged files."""
    try:
        yield
    except Exception as error:
        from datasets.exceptions import DatasetGenerationError

        cause = (error.__cause__ or error) if isinstance(error, DatasetGenerationError) else error
        said = (str(cause).strip().splitlines() or [""])[0].rstrip(".")
        then = next((remedy.format(name=name) for sign, remedy in REMEDIES.items() if sign in said), ANOTHER)
        raise fault(f"{type(cause).__name__} ({said})", "a data set that can be loaded", then) from error


def _parts(hub_splits: Sequence[str], official: bool, fault: _Fault) -> dict[str, str]:
    """Part by split. Splits that are no part, such as test images with noise, are not among them."""
    splits = {hub_split: SPLITS[hub_split.lower()] for hub_split in hub_splits if hub_split.lower() in SPLITS}
    if len(hub_splits) == 1 and not official:
        return {hub_splits[0]: "train"}
    if "train" not in splits.values() or (official and "trainval" in hub_splits):
        raise fault(f"the splits {', '.join(hub_splits)}", "train, validation and test, each by itself")
    return splits


def _licence(name: str, builder: Any) -> str:
    from huggingface_hub import DatasetCard, hf_hub_download

    stated = builder.info.license
    if not stated and builder.repo_id:
        try:
            card = hf_hub_download(name, "README.md", repo_type="dataset", revision=builder.hash)
            stated = DatasetCard.load(card).data.get("license")
        except (OSError, ValueError):  # no card, or one without a head
            stated = None
    if isinstance(stated, list):
        stated = ", ".join(stated)
    return f"{name} states the licence {stated}." if stated else f"{name} states no licence."


def _columns(features: Any, fault: _Fault) -> tuple[str, str]:
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


def _labels(hub_split: str, rows: Any, column: str, fault: _Fault) -> list[Label]:
    """The label of every row, in words where it has any."""
    names = getattr(rows.features[column], "names", None)
    values: list[Label | None] = rows[column][:]
    for row, value in enumerate(values):
        if value is None or value in ("", -1):  # -1 stands for a label that is kept back
            raise fault(f"no label in {hub_split}/{row:06}", "one in every row")
    return [names[value] for value in values] if names else values  # type: ignore[return-value]


def _matched(
    labels: Collection[Label], names: list[str], aliases: Mapping[str, Sequence[str]], fault: _Fault
) -> dict[Label, int]:
    """The official class of each label: all of them, each by one label. Numbers must be the official ones."""
    if set(labels) == set(range(len(names))):
        return {label: int(label) for label in labels}
    matcher = Matcher(names, {alias: name for name, others in aliases.items() for alias in others})
    found: dict[Label, int] = {}
    for label in sorted(labels, key=str):
        class_id = matcher.match(shown(label)) if isinstance(label, str) else None
        if class_id is None or class_id in found.values():
            raise fault(f"the class {label!r}", "each of the official classes once")
        found[label] = class_id
    if missing := sorted(set(range(len(names))) - set(found.values())):
        raise fault(f"no class {names[missing[0]]!r}", f"all {len(names)} official classes")
    return found


def _require_counts(rows: Sequence[layout.Row], wanted: Mapping[str, int], fault: _Fault) -> None:
    found = {split: sum(row[2] == split for row in rows) for split in ("train", "val", "test")}
    found = {split: count for split, count in found.items() if count}
    if found != wanted:
        said = [", ".join(f"{count:,} {split}" for split, count in counts.items()) for counts in (found, wanted)]
        raise fault(f"{said[0]} images", f"the official {said[1]}")


def _as_stored(rows: Any, column: str) -> Any:
    """The images alone, as bytes and not opened."""
    from datasets import Image

    return rows.select_columns([column]).cast_column(column, Image(decode=False))


def _content(value: Any, path: str, fault: _Fault) -> bytes:
    try:
        return bytes(value["bytes"] or Path(value["path"]).read_bytes())
    except (TypeError, OSError):
        raise fault(f"no image in {path}", "one in every row") from None
