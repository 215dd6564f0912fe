"""Oxford Flowers-102 (www.robots.ox.ac.uk/~vgg/data/flowers/102/): 8,189 images of 102 flowers.

root/jpg/image_00001.jpg …            102flowers.tgz
root/imagelabels.mat                  labels from 1, in the order of the images
root/setid.mat                        trnid, valid, tstid: numbers of images, from 1
root/cat_to_name.json                 {"1": "pink primrose", …}; where it is missing, class_lists/flowers.csv
root/split_zhou_OxfordFlowers.json    CoOp's split, for the protocols coop and paper

CoOp's train holds 3,097 images of the official test set: results of different protocols must not be mixed.
"""

from pathlib import Path

import polars as pl

from pipeline.datasets import layout, protocols
from pipeline.datasets.metadata import COOP, Metadata
from pipeline.datasets.published import Archive, Published

NAME = "flowers"
NOUN = "flower"
LICENCE = "Oxford Flowers-102 states no licence."

ORIGIN = "take it anew from www.robots.ox.ac.uk/~vgg/data/flowers/102/"
NAMES_ORIGIN = "take CoOp's copy, or delete the file: divek knows the 102 names"
CROP_BOTTOM = 0

URL = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
FILES = (
    Published(
        Archive(f"{URL}102flowers.tgz", "102flowers.tgz", "52808999861908f626f3c1f4e79d11fa"), ("jpg",), pictures=True
    ),
    Published(
        Archive(f"{URL}imagelabels.mat", "imagelabels.mat", "e0620be6f572b9609742df49c70aed4d"), ("imagelabels.mat",)
    ),
    Published(Archive(f"{URL}setid.mat", "setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c"), ("setid.mat",)),
)
METADATA = ()


def index(root: Path, protocol: str, seed: int = 0) -> pl.DataFrame:
    """Rows of layout.SCHEMA. Nothing is drawn: `seed` has no effect. Raises UserError."""
    layout.require_protocol(protocol, NAME)
    names = _names(root)
    label_file = Metadata(root / "imagelabels.mat", ORIGIN)
    (values,) = label_file.mat("labels")
    labels = {
        _path(number): label_file.label(value, len(names), f"image {number}")
        for number, value in enumerate(values.tolist(), start=1)
    }
    if protocol == "official":
        return layout.table(_official(root, labels), names)
    coop_file = Metadata(root / "split_zhou_OxfordFlowers.json", COOP)
    rows = protocols.coop(coop_file, labels, len(names), inside="jpg/")
    if protocol == "paper":
        rows = protocols.paper(rows, len(names), base_test="val", novel_test="test")
    return layout.table(rows, names)


def _path(number: int) -> str:
    return f"jpg/image_{number:05}.jpg"


def _official(root: Path, labels: dict[str, int]) -> list[protocols.Row]:
    sets = Metadata(root / "setid.mat", ORIGIN)
    numbers = dict(zip(("train", "val", "test"), sets.mat("trnid", "valid", "tstid"), strict=True))
    splits = [(_path(number), split) for split, ids in numbers.items() for number in ids.tolist()]
    sets.covers([path for path, _ in splits], labels, "image")
    return [(path, labels[path], split) for path, split in splits]


def _names(root: Path) -> list[str]:
    file = Metadata(root / "cat_to_name.json", NAMES_ORIGIN)
    if not file.file.exists():
        return [name for _, name, _ in layout.class_table(NAME)]
    names = file.json()
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise file.fault("no table of names", '{"1": "pink primrose", …}')
    labels = [str(label) for label in range(1, len(names) + 1)]
    file.covers(list(names), labels, "label")
    return [names[label] for label in labels]
