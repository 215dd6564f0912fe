"""Data sets: one file each, found by name. Each gives a table of classes and a table of images."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import polars as pl

from pipeline.datasets import aircraft, cars, cub, fieldguide, flowers, pets
from pipeline.params import UserError

OFFICIAL: dict[str, Callable[[Path, str, int], pl.DataFrame]] = {
    "flowers": flowers.index,
    "pets": pets.index,
    "cars": cars.index,
    "aircraft": aircraft.index,
    "cub": cub.index,
}


class Counts(Protocol):
    """How many images of each class a data set is to have, where it can choose."""

    @property
    def train_per_class(self) -> int: ...

    @property
    def val_per_class(self) -> int: ...

    @property
    def test_per_class(self) -> int: ...


DATASETS: dict[str, Callable[[Counts], tuple[pl.DataFrame, pl.DataFrame]]] = {"fieldguide": fieldguide.load}


def index(name: str, root: Path, protocol: str, seed: int = 0) -> pl.DataFrame:
    """The images of an official data set, from its metadata files alone.

    Args:
        name: one of OFFICIAL; the module of this name describes the files under `root`.
        root: folder that the official archives were unpacked in.
        protocol: official (the data set's own parts), coop (CoOp's split; not for aircraft and cub) or paper (the base
            training images, base test images and novel test images of the reference run, and no others).
        seed: of the cuts that the protocol paper makes itself, for pets and cub.

    Returns:
        One row an image, sorted by class_id and path: path from `root` with forward slashes, class_id from 0,
        class_name, split (base or novel), part (train, val or test).

    Raises:
        UserError: unknown name or protocol; a file is missing or not as the data set's authors made it.
    """
    if name not in OFFICIAL:
        raise UserError(f"no data set {name!r}, wanted one of {', '.join(OFFICIAL)}; ask for another data set")
    return OFFICIAL[name](Path(root), protocol, seed)
