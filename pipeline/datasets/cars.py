"""Stanford Cars (the original host is gone): 16,185 images of 196 models of cars.

root/cars_train/00001.jpg …                cars_train.tgz
root/cars_test/00001.jpg …                 cars_test.tgz
root/devkit/cars_meta.mat                  car_devkit.tgz: class_names, "AM General Hummer SUV 2000", in label order
root/devkit/cars_train_annos.mat           annotations: box, class (from 1) and fname of each training image
root/devkit/cars_test_annos.mat            the same without class
root/cars_test_annos_withlabels.mat        the same with class; may lie in devkit/
root/split_zhou_StanfordCars.json          CoOp's split, for the protocols coop and paper

The protocol official needs cars_test_annos_withlabels.mat. For the others CoOp's labels of the test images will do.
"""

from pathlib import Path
from typing import Any

import polars as pl

from pipeline.datasets import layout, protocols
from pipeline.datasets.metadata import COOP, Metadata, find_folder
from pipeline.datasets.published import Archive, Published

NAME = "cars"
NOUN = "car"
LICENCE = "Stanford Cars states no licence."

ORIGIN = "its original host is gone: take car_devkit.tgz from a mirror"
LABELLED = "cars_test_annos_withlabels.mat"
LABELLED_ORIGIN = "the devkit's test file has no classes: take this one from a mirror, or use the protocol coop"

CROP_BOTTOM = 0

FILES = (
    Published(Archive("", "car_devkit.tgz", "c3b158d763b6e2245038c8ad08e45376"), ("devkit",)),
    Published(Archive("", "cars_train.tgz", "065e5b463ae28d29e77c1b4b166cfe61"), ("cars_train",), pictures=True),
    Published(Archive("", "cars_test.tgz", "4ce7ebf6a94d07f1952d94dd34c4d501"), ("cars_test",), pictures=True),
    Published(Archive("", LABELLED, "b0a2b23655a3edd16d84508592a98d10"), (LABELLED,), optional=True),
)
METADATA = ("cars_meta.mat", "cars_train_annos.mat", "cars_test_annos.mat", "cars_test_annos_withlabels.mat")


def index(root: Path, protocol: str, seed: int = 0) -> pl.DataFrame:
    """Rows of layout.SCHEMA. Nothing is drawn: `seed` has no effect. Raises UserError."""
    layout.require_protocol(protocol, NAME)
    meta = Metadata(root / "devkit" / "cars_meta.mat", ORIGIN)
    names = [_year_first(meta, str(_value(meta, cell))) for cell in meta.mat("class_names")[0]]
    train = _labels(Metadata(root / "devkit" / "cars_train_annos.mat", ORIGIN), "cars_train", len(names))
    labelled = Metadata(find_folder(root, LABELLED, "", "devkit") / LABELLED, LABELLED_ORIGIN)
    if protocol == "official":
        test = _labels(labelled, "cars_test", len(names))
        splits = {"train": train, "test": test}
        rows = [(path, label, split) for split, labels in splits.items() for path, label in labels.items()]
        return layout.table(rows, names)
    labels_of: dict[str, int | None] = dict(train)
    if labelled.file.is_file():
        labels_of |= _labels(labelled, "cars_test", len(names))
    else:
        bare = Metadata(root / "devkit" / "cars_test_annos.mat", ORIGIN)
        labels_of |= dict.fromkeys(f"cars_test/{name}" for name in _columns(bare, "fname")[0])
    rows = protocols.coop(Metadata(root / "split_zhou_StanfordCars.json", COOP), labels_of, len(names))
    if protocol == "paper":
        rows = protocols.paper(rows, len(names), base_test="val", novel_test="val")
    return layout.table(rows, names)


def _labels(file: Metadata, folder: str, count: int) -> dict[str, int]:
    """Class of each image of an annotation file."""
    files, classes = _columns(file, "fname", "class")
    file.covers(files, set(files), "image")
    return {f"{folder}/{name}": file.label(value, count, name) for name, value in zip(files, classes, strict=True)}


def _columns(file: Metadata, *fields: str) -> list[list[Any]]:
    (annotations,) = file.mat("annotations")
    for field in fields:
        if field not in (annotations.dtype.names or ()):
            raise file.fault(f"annotations without {field!r}", f"annotations with {' and '.join(fields)}")
    return [[_value(file, cell) for cell in annotations[field]] for field in fields]


def _value(file: Metadata, cell: Any) -> Any:
    """The one value of a MATLAB cell."""
    try:
        return cell.item()
    except (AttributeError, ValueError):
        raise file.fault(f"the cell {cell!r}", "one value in each cell") from None


def _year_first(file: Metadata, name: str) -> str:
    model, _, year = name.rpartition(" ")
    if not (model and year.isdecimal()):
        raise file.fault(f"class name {name!r}", "the model, then its year")
    return f"{year} {model}"
