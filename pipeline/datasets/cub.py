"""CUB-200-2011 (data.caltech.edu/records/65de6-vp158): 11,788 images of 200 birds.

root/CUB_200_2011/images/001.Black_footed_Albatross/*.jpg       CUB_200_2011.tgz; root may be CUB_200_2011 itself
root/CUB_200_2011/images.txt                                    "image path", numbers from 1
root/CUB_200_2011/classes.txt                                   "class name", numbers from 1
root/CUB_200_2011/image_class_labels.txt                        "image class"
root/CUB_200_2011/train_test_split.txt                          "image 1" to train on, "image 0" to test on

Names stay as the data set spells them ("Artic Tern"). CoOp has no split of it.
"""

from pathlib import Path

import polars as pl

from pipeline.datasets import layout, protocols
from pipeline.datasets.metadata import Metadata, find_folder
from pipeline.datasets.published import Archive, Published

NAME = "cub"
NOUN = "bird"
LICENCE = "CUB-200-2011 is for non-commercial research only."

ORIGIN = "unpack CUB_200_2011.tgz of data.caltech.edu/records/65de6-vp158 anew"
SPLITS = {"1": "train", "0": "test"}
CROP_BOTTOM = 0

URL = "https://data.caltech.edu/records/65de6-vp158/files/"
FILES = (
    Published(
        Archive(f"{URL}CUB_200_2011.tgz", "CUB_200_2011.tgz", "97eceeb196236b17998738112f37df78"),
        ("CUB_200_2011", "images.txt"),
    ),
)
METADATA = ("images.txt", "classes.txt", "image_class_labels.txt", "train_test_split.txt")


def index(root: Path, protocol: str, seed: int = 0) -> pl.DataFrame:
    """Rows of layout.SCHEMA; `seed` draws the cut of the protocol paper. Raises UserError."""
    layout.require_protocol(protocol, NAME, ("official", "paper"))
    folder = find_folder(root, "images.txt", "CUB_200_2011", "")
    images = Metadata(folder / "images.txt", ORIGIN).keyed("image path")
    names = _names(Metadata(folder / "classes.txt", ORIGIN))
    label_file = Metadata(folder / "image_class_labels.txt", ORIGIN)
    part_file = Metadata(folder / "train_test_split.txt", ORIGIN)
    labels, flags = label_file.keyed("image class"), part_file.keyed("image is_train")
    label_file.covers(labels, images, "image")
    part_file.covers(flags, images, "image")
    rows = []
    for image, (path,) in images.items():
        (flag,), (label,) = flags[image], labels[image]
        if flag not in SPLITS:
            raise part_file.fault(f"{flag!r} for image {image}", "1 (train) or 0 (test)")
        rows.append((f"images/{path}", label_file.label(label, len(names), f"image {image}"), SPLITS[flag]))
    if protocol == "paper":
        trained = [row for row in rows if row[2] == "train"]
        rows = protocols.paper(protocols.cut(trained, seed), len(names), base_test="val", novel_test="val")
    return layout.table(rows, names, folder.relative_to(root))


def _names(file: Metadata) -> list[str]:
    classes = file.keyed("class name")
    numbers = [str(number) for number in range(1, len(classes) + 1)]
    file.covers(classes, numbers, "class")
    names = []
    for number in numbers:
        folder = classes[number][0]
        if not folder.partition(".")[2]:
            raise file.fault(f"class {folder!r}", "a name such as 001.Black_footed_Albatross")
        names.append(folder.partition(".")[2].replace("_", " "))
    return names
