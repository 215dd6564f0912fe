"""Data sets: one file each, found by name. Each gives an index of its images and the way to their bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import polars as pl

from pipeline.core.params import UserError
from pipeline.datasets import aircraft, cars, cub, fieldguide, flowers, folder, hub, official, pets
from pipeline.datasets.official import Official
from pipeline.datasets.params import DataParams
from pipeline.datasets.source import Source

OFFICIAL: dict[str, Official] = {module.NAME: module for module in (flowers, pets, cars, aircraft, cub)}


@contextmanager
def opened(name: str, wanted: DataParams) -> Iterator[Source]:
    """The data set `name` of settings.NAMES, found and indexed. Raises UserError."""
    if wanted.hub and len(wanted.dataset) > 1:
        raise UserError(
            f"data.hub is {wanted.hub}, and dataset names {len(wanted.dataset)}, wanted a mirror of one alone; put the "
            "archives of several into data.path, or set dataset to one"
        )
    place = _place(name, wanted)
    if name == fieldguide.NAME:
        found = fieldguide.opened(wanted)
    elif wanted.hub:
        found = hub.opened(wanted, OFFICIAL.get(name), name)
    elif name == folder.NAME:
        found = folder.opened(place, wanted)
    else:
        with official.opened(OFFICIAL[name], place, wanted.protocol, wanted.seed) as source:
            yield _asked(source, wanted)
        return
    yield _asked(found, wanted)


def _asked(source: Source, wanted: DataParams) -> Source:
    return replace(source, noun=wanted.noun) if wanted.noun else source


def _place(name: str, wanted: DataParams) -> Path:
    """data.path, or the folder in it that has the name of the data set: not one of your own classes of that name."""
    inner = Path(wanted.path) / name
    alone = wanted.dataset == (folder.NAME,)
    return inner if inner.is_dir() and not alone else Path(wanted.path)


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
    return OFFICIAL[name].index(Path(root), protocol, seed)
