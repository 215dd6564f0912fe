"""Data sets: one file each, found by name. Each gives a table of classes and a table of images."""

from collections.abc import Callable
from typing import Protocol

import polars as pl

from pipeline.datasets import fieldguide


class Counts(Protocol):
    """How many images of each class a data set is to have, where it can choose."""

    @property
    def train_per_class(self) -> int: ...

    @property
    def val_per_class(self) -> int: ...

    @property
    def test_per_class(self) -> int: ...


DATASETS: dict[str, Callable[[Counts], tuple[pl.DataFrame, pl.DataFrame]]] = {"fieldguide": fieldguide.load}
