"""The field guide as a data set: drawn anew from seeds, the same bytes every time."""

import io
from collections.abc import Collection, Iterator
from typing import Protocol

from pipeline.datasets import layout
from pipeline.datasets.drawing import draw, random_bird
from pipeline.datasets.source import Source
from pipeline.datasets.species import SPECIES

NAME = "fieldguide"
NOUN = "bird"
LICENCE = "The field guide is part of divek, Apache-2.0."


class Counts(Protocol):
    """How many images of each class are drawn."""

    @property
    def train_per_class(self) -> int: ...

    @property
    def val_per_class(self) -> int: ...

    @property
    def test_per_class(self) -> int: ...


def open_source(sizes: Counts) -> Source:
    """The field guide, with as many images of each class and split as `sizes` says."""
    # The base model was trained on birds of the split "pretrain": none of these pictures.
    counts = {"train": sizes.train_per_class, "val": sizes.val_per_class, "test": sizes.test_per_class}
    birds = {
        f"{split}/{species.name.replace(' ', '_')}/{number:04}.png": (species, split, number)
        for species in SPECIES
        for split, count in counts.items()
        for number in range(count)
    }
    rows = [(path, species.class_id, split) for path, (species, split, _) in birds.items()]

    def pictures(paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
        for path in paths:
            buffer = io.BytesIO()
            draw(random_bird(*birds[path])).save(buffer, "PNG")
            yield path, buffer.getvalue()

    names = [species.name for species in SPECIES]
    groups = [species.genus.name for species in SPECIES]
    return Source(NAME, names, layout.table(rows, names), NOUN, LICENCE, pictures, groups=groups, complete=True)
