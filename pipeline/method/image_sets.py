"""Which images serve what: training sees training images of base classes alone, decisions see validation images."""

import polars as pl


def of_base_classes(images: pl.DataFrame, classes: pl.DataFrame) -> pl.DataFrame:
    """The rows of `images` whose class is a base class, in their order."""
    base = classes.filter(subset="base").select("dataset", "class_id")
    return images.join(base, on=["dataset", "class_id"], how="semi", maintain_order="left")


def training_images(images: pl.DataFrame, classes: pl.DataFrame) -> pl.DataFrame:
    """The training images of base classes: the only ones that training may see."""
    return of_base_classes(images.filter(split="train"), classes)


def validation_images(images: pl.DataFrame, classes: pl.DataFrame, count: int) -> pl.DataFrame:
    """At most `count` validation images of base classes, spread evenly over the classes, sorted by image_id."""
    rows = of_base_classes(images.filter(split="val"), classes).sort("image_id")
    turn = pl.int_range(pl.len()).over("dataset", "class_id")
    return rows.with_columns(_turn=turn).sort("_turn", "image_id").head(count).drop("_turn").sort("image_id")
