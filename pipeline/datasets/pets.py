"""Oxford-IIIT Pets (www.robots.ox.ac.uk/~vgg/data/pets/): 7,349 images of 37 breeds of cats and dogs.

root/images/Abyssinian_1.jpg …      images.tar.gz; it holds stray .mat files, so the list decides which are images
root/annotations/list.txt           "stem class species breed", classes from 1; the first six lines are comments
root/annotations/trainval.txt       the same columns: the images to train on
root/annotations/test.txt           the same columns: the images to test on
root/split_zhou_OxfordPets.json     CoOp's split, for the protocol coop
"""

from pathlib import Path

import polars as pl

from pipeline.datasets import layout, protocols
from pipeline.datasets.metadata import COOP, Metadata
from pipeline.datasets.published import Archive, Published

NAME = "pets"
NOUN = "pet"
LICENCE = "Oxford-IIIT Pets is licensed CC BY-SA 4.0."

ORIGIN = "unpack annotations.tar.gz of www.robots.ox.ac.uk/~vgg/data/pets/ anew"
FORM = "stem class species breed"
CROP_BOTTOM = 0

URL = "https://www.robots.ox.ac.uk/~vgg/data/pets/data/"
FILES = (
    Published(
        Archive(f"{URL}images.tar.gz", "images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c"), ("images",), pictures=True
    ),
    Published(
        Archive(f"{URL}annotations.tar.gz", "annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f"), ("annotations",)
    ),
)
METADATA = ("list.txt", "trainval.txt", "test.txt")


def index(root: Path, protocol: str, seed: int = 0) -> pl.DataFrame:
    """Rows of layout.SCHEMA; `seed` draws the cut of the protocol paper. Raises UserError."""
    layout.require_protocol(protocol, NAME)
    whole, trainval, test = (
        Metadata(root / "annotations" / name, ORIGIN) for name in ("list.txt", "trainval.txt", "test.txt")
    )
    names, labels = _classes(whole)
    if protocol == "coop":
        coop_file = Metadata(root / "split_zhou_OxfordPets.json", COOP)
        official = {_path(stem): class_id for stem, class_id in labels.items()}
        return layout.table(protocols.coop(coop_file, official, len(names), inside="images/"), names)
    splits = {"train": _listed(trainval, labels, len(names)), "test": _listed(test, labels, len(names))}
    test.covers([*splits["train"], *splits["test"]], labels, "image (with those of trainval.txt)")
    rows = [(_path(stem), labels[stem], split) for split, stems in splits.items() for stem in stems]
    if protocol == "paper":
        trained = [row for row in rows if row[2] == "train"]
        rows = protocols.paper(protocols.cut(trained, seed), len(names), base_test="val", novel_test="val")
    return layout.table(rows, names)


def _path(stem: str) -> str:
    return f"images/{stem}.jpg"


def _labels(file: Metadata, count: int) -> dict[str, int]:
    return {stem: file.label(rest[0], count, stem) for stem, rest in file.keyed(FORM).items()}


def _listed(file: Metadata, labels: dict[str, int], count: int) -> list[str]:
    """The stems of a split, all of them in list.txt under the same class."""
    split = _labels(file, count)
    for stem, class_id in split.items():
        if stem not in labels:
            raise file.fault(f"unknown image {stem!r}", "images of list.txt")
        if class_id != labels[stem]:
            raise file.fault(f"class {class_id + 1} of {stem}", f"{labels[stem] + 1}, as list.txt has it")
    return list(split)


def _classes(file: Metadata) -> tuple[list[str], dict[str, int]]:
    """Names of the classes in label order, and the class of each stem, from list.txt."""
    breeds = {stem: stem.rpartition("_")[0] for stem in file.keyed(FORM)}
    labels = _labels(file, len(set(breeds.values())))
    names: dict[int, str] = {}
    for stem, class_id in labels.items():
        breed = breeds[stem]
        if not breed or names.setdefault(class_id, breed) != breed:
            raise file.fault(f"{stem} in class {class_id + 1}", "images Breed_1, Breed_2 … of one breed in each class")
    numbers = [str(class_id + 1) for class_id in names]
    file.covers(numbers, [str(number) for number in range(1, len(set(breeds.values())) + 1)], "class")
    return [names[class_id].replace("_", " ") for class_id in range(len(names))], labels
