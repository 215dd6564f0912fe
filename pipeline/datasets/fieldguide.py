"""The field guide as a data set: drawn anew from seeds, the same bytes every time."""

import hashlib
import io
from typing import Any

import polars as pl

from pipeline.fieldguide.drawing import draw, random_bird
from pipeline.fieldguide.species import SPECIES
from pipeline.tables import CLASSES, IMAGES

NAME = "fieldguide"


def load(counts: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The tables of classes and images, so many images a class and split as `counts` says."""
    classes = pl.DataFrame(
        [{"dataset": NAME, "class_id": s.class_id, "name": s.name, "split": s.split, "aliases": []} for s in SPECIES],
        schema=CLASSES.schema,
    )
    wanted = {"train": counts.train_per_class, "val": counts.val_per_class, "test": counts.test_per_class}
    # The base model was raised on birds of the part "pretrain": none of these pictures.
    rows = [
        _row(draw(random_bird(species, split, number)), species.class_id, split)
        for species in SPECIES
        for split, count in wanted.items()
        for number in range(count)
    ]
    return classes, pl.DataFrame(rows, schema=IMAGES.schema)


def _row(picture: Any, class_id: int, split: str) -> dict[str, Any]:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    image = buffer.getvalue()
    return {
        "image_id": hashlib.sha256(image).hexdigest()[:16],
        "dataset": NAME,
        "class_id": class_id,
        "split": split,
        "image": image,
        "width": picture.width,
        "height": picture.height,
    }
