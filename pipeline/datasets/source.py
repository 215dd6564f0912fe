"""What a data set is: an index of its images, and a way to read them."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

Pictures = Callable[[Collection[str]], Iterator[tuple[str, bytes]]]
"""Paths of the index → (path, content of the file), each once, in any order. UserError where one is not there."""


@dataclass(frozen=True)
class Source:
    """A data set whose pictures have not been read yet.

    Attributes:
        names: all class names, by class_id.
        rows: one an image, of layout.SCHEMA.
        noun: what the pictures show, as the prompts say it.
        licence: a sentence.
        aliases: other names by class name.
        groups: by class_id the group of classes mistaken alike (genus, make, family); empty where none is known.
        subsets: base or novel by class_id, if the user's own table has them.
        crop_bottom: rows of pixels at the lower edge that are no part of the picture.
        complete: the splits are those of a published run: nothing is held out of them.
        missing: paths of `rows` whose pictures are not there, as far as can be seen without reading any.
    """

    name: str
    names: Sequence[str]
    rows: pl.DataFrame
    noun: str
    licence: str
    pictures: Pictures
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    groups: Sequence[str] = ()
    subsets: Sequence[str] = ()
    crop_bottom: int = 0
    complete: bool = False
    missing: frozenset[str] = frozenset()
