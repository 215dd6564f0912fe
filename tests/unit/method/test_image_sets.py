"""Which images training uses."""

import polars as pl

from pipeline.method.image_sets import validation_images


def test_validation_images_are_of_base_classes_and_spread_over_them():
    classes = pl.DataFrame({"dataset": ["d"] * 4, "class_id": range(4), "subset": ["base"] * 3 + ["novel"]})
    images = pl.DataFrame(
        [
            {"image_id": f"{c}{split}{n}", "dataset": "d", "class_id": c, "split": split}
            for c in range(4)
            for split in ("train", "val", "test")
            for n in range(5)
        ]
    )
    rows = validation_images(images, classes, 7)
    assert set(rows["split"]) == {"val"} and set(rows["class_id"]) == {0, 1, 2} and rows.height == 7
    assert max(rows["class_id"].value_counts()["count"]) == 3
    assert validation_images(images, classes, 99).height == 15 and validation_images(images, classes, 0).height == 0
