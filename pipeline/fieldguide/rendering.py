"""The field guide's tables in memory, for the evaluation of the base model, benches and tests."""

from dataclasses import dataclass

import polars as pl

from pipeline.datasets import fieldguide, packing
from pipeline.datasets.species import SPECIES


@dataclass(frozen=True)
class Counts:
    train_per_class: int
    val_per_class: int
    test_per_class: int


def render_tables(train: int, val: int, test: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The tables of classes and images, with so many images of each class in each split."""
    source = fieldguide.open_source(Counts(train, val, test))
    return packing.classes(source, [species.subset for species in SPECIES]), packing.in_memory(source, distance=-1)
