"""Data sets, one file each, by name. Each has an index of its images and a way to read them."""

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
def open_dataset(name: str, params: DataParams) -> Iterator[Source]:
    """The data set `name`, one of params.NAMES, with its index. Raises UserError."""
    if params.hub and len(params.dataset) > 1:
        raise UserError(
            f"data.hub is {params.hub}, a mirror of one data set, but dataset has {len(params.dataset)}; put the "
            "archives of several into data.path, or set dataset to one"
        )
    place = _place(name, params)
    if name == fieldguide.NAME:
        source = fieldguide.open_source(params)
    elif params.hub:
        source = hub.open_source(params, OFFICIAL.get(name), name)
    elif name == folder.NAME:
        source = folder.open_source(place, params)
    else:
        with official.open_source(OFFICIAL[name], place, params.protocol, params.seed) as source:
            yield _with_noun(source, params)
        return
    yield _with_noun(source, params)


def _with_noun(source: Source, params: DataParams) -> Source:
    return replace(source, noun=params.noun) if params.noun else source


def _place(name: str, params: DataParams) -> Path:
    """data.path, or the folder in it that has the name of the data set: not one of your own classes of that name."""
    place = Path(params.path).expanduser()
    alone = params.dataset == (folder.NAME,)
    inner = place / name
    if name in OFFICIAL and params.path and not params.hub and not place.is_dir():
        raise UserError(
            f"data.path: {place} is no folder; set it to the folder with the archives or files of {name} with `dvc exp "
            "run -S data.path=…`, or to photos, an empty folder, to have them downloaded"
        )
    return inner if inner.is_dir() and not alone else place


def index(name: str, root: Path, protocol: str, seed: int = 0) -> pl.DataFrame:
    """The images of an official data set, from its metadata files alone.

    Args:
        name: one of OFFICIAL; the module of this name describes the files under `root`.
        root: folder that the official archives were unpacked in.
        protocol: official (the data set's own splits), coop (CoOp's; not for aircraft and cub) or paper (the base
            training images, base test images and novel test images of the reference run, and no others).
        seed: of the cuts that the protocol paper makes itself, for pets and cub.

    Returns:
        One row an image, sorted by class_id and path: path from `root` with forward slashes, class_id from 0,
        class_name, subset (base or novel), split (train, val or test).

    Raises:
        UserError: unknown name or protocol; a file is missing or not as the data set's authors made it.
    """
    if name not in OFFICIAL:
        raise UserError(f"there is no official data set {name!r}, only {', '.join(OFFICIAL)}")
    return OFFICIAL[name].index(Path(root), protocol, seed)
