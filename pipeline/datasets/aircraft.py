"""FGVC-Aircraft 2013b (www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/): 10,000 images of 100 variants of aircraft.

root/fgvc-aircraft-2013b/data/images/0056978.jpg …          fgvc-aircraft-2013b.tar.gz; root may be either inner folder
root/fgvc-aircraft-2013b/data/variants.txt                  a name a line, in label order
root/fgvc-aircraft-2013b/data/images_variant_train.txt      "0056978 707-320", and so _val, _trainval and _test

The lowest 20 rows of pixels are a banner with the photographer's name. CoOp has no split of its own.
"""

from pathlib import Path

import polars as pl

from pipeline.datasets import layout, protocols
from pipeline.datasets.metadata import Metadata, find_folder
from pipeline.datasets.published import Archive, Published

NAME = "aircraft"
NOUN = "aircraft"
LICENCE = "FGVC-Aircraft is for non-commercial research only."

ORIGIN = "unpack fgvc-aircraft-2013b.tar.gz of www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/ anew"
CROP_BOTTOM = 20

URL = "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/"
FILES = (
    Published(
        Archive(f"{URL}fgvc-aircraft-2013b.tar.gz", "fgvc-aircraft-2013b.tar.gz", "d4acdd33327262359767eeaa97a4f732"),
        ("fgvc-aircraft-2013b", "data/variants.txt", "variants.txt"),
    ),
)
METADATA = ("variants.txt", *(f"images_variant_{split}.txt" for split in ("train", "val", "trainval", "test")))


def index(root: Path, protocol: str, seed: int = 0) -> pl.DataFrame:
    """Rows of layout.SCHEMA. Nothing is drawn: `seed` has no effect. Raises UserError."""
    layout.require_protocol(protocol, NAME, ("official", "paper"))
    folder = find_folder(root, "variants.txt", "fgvc-aircraft-2013b/data", "data", "")
    names = list(Metadata(folder / "variants.txt", ORIGIN).keyed("variant"))
    labels = {name: class_id for class_id, name in enumerate(names)}
    train, val, trainval, test = (_split(folder, split, labels) for split in ("train", "val", "trainval", "test"))
    # Two lists of the same images: one that was cut short shows.
    _list(folder, "trainval").covers([*train, *val], trainval, "image (of train and val)")
    if shared := sorted(trainval.keys() & test.keys()):
        raise _list(folder, "test").fault(f"image {shared[0]}, also in trainval", "other images to test on")
    splits = {"train": train, "val": val, "test": test}
    rows = [
        (f"images/{image}.jpg", label, split) for split, images in splits.items() for image, label in images.items()
    ]
    if protocol == "paper":
        rows = protocols.paper(rows, len(names), base_test="val", novel_test="val")
    return layout.table(rows, names, folder.relative_to(root))


def _list(folder: Path, split: str) -> Metadata:
    return Metadata(folder / f"images_variant_{split}.txt", ORIGIN)


def _split(folder: Path, split: str, labels: dict[str, int]) -> dict[str, int]:
    file = _list(folder, split)
    images = file.keyed("image variant")
    for image, (variant,) in images.items():
        if variant not in labels:
            raise file.fault(f"unknown variant {variant!r} of image {image}", "variants of variants.txt")
    # Sorted by variant: a list that was cut short lacks the last ones.
    file.covers({variant for (variant,) in images.values()}, labels, "variant")
    return {image: labels[variant] for image, (variant,) in images.items()}
