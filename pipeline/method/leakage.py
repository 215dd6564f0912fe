"""Leakage checks, before training and before evaluation: what fails here would make the numbers worthless.

No picture in both training and test, by content and by perceptual hash; no novel class in a training question; training
questions about training images only; results about test images only.
"""

from collections.abc import Iterable

import polars as pl

from pipeline.core.params import UserError
from pipeline.method.spelling import normalised

HASH_BITS = 256
COLUMNS = ["image_id", "dataset", "class_id", "split", "file", "status", "content", "perceptual_hash"]
"""Columns of the table of images that the checks read."""

TRAINING, TEST = ("train", "val"), ("test",)
SHOWN = 5  # examples in a message
BLOCK = 256  # images compared with all others at once


def near_pairs(left: pl.DataFrame, right: pl.DataFrame, distance: int) -> pl.DataFrame:
    """Pairs of images that show the same picture.

    Args:
        left, right: rows with image_id, content and perceptual_hash; an image is not compared with itself.
        distance: bits of the 256 of the perceptual hash that may differ; -1 compares the content alone.

    Returns:
        left_id, right_id, distance (0 where the content is the same), sorted.
    """
    same = left.join(right, on="content", suffix="_right").select(
        left_id="image_id", right_id="image_id_right", distance=pl.lit(0, pl.Int64)
    )
    similar = _similar(left, right, distance) if distance >= 0 else same.clear()
    pairs = pl.concat([same, similar]).filter(pl.col("left_id") != pl.col("right_id"))
    return pairs.group_by("left_id", "right_id").agg(pl.col("distance").min()).sort("distance", "left_id", "right_id")


def _similar(left: pl.DataFrame, right: pl.DataFrame, distance: int) -> pl.DataFrame:
    import numpy as np

    left, right = (frame.filter(pl.col("perceptual_hash").is_not_null()) for frame in (left, right))
    words = [
        np.frombuffer(b"".join(map(bytes.fromhex, frame["perceptual_hash"])), np.uint64).reshape(-1, HASH_BITS // 64)
        for frame in (left, right)
    ]
    pairs: dict[str, list[object]] = {"left_id": [], "right_id": [], "distance": []}
    for start in range(0, left.height, BLOCK):
        block = words[0][start : start + BLOCK]
        bits = np.zeros((len(block), right.height), np.uint16)
        for word in range(HASH_BITS // 64):  # word by word: less memory
            bits += np.bitwise_count(block[:, word, None] ^ words[1][None, :, word])
        rows, columns = np.nonzero(bits <= distance)
        pairs["left_id"] += left["image_id"].gather(start + rows).to_list()
        pairs["right_id"] += right["image_id"].gather(columns).to_list()
        pairs["distance"] += bits[rows, columns].tolist()
    return pl.DataFrame(pairs, schema={"left_id": pl.String, "right_id": pl.String, "distance": pl.Int64})


def leaks(images: pl.DataFrame, distance: int) -> pl.DataFrame:
    """Pairs of a training or validation image (left_id) and a test image (right_id) that show the same picture.

    Images that cannot be read are left out.
    """
    readable = images.filter(status="ok")
    train, test = (readable.filter(pl.col("split").is_in(parts)) for parts in (TRAINING, TEST))
    return near_pairs(train, test, distance)


def without_leaks(images: pl.DataFrame, distance: int) -> pl.DataFrame:
    """`images` with the split "out" for training and validation images that a test image repeats."""
    leaking = leaks(images, distance)["left_id"].unique()
    out = pl.col("image_id").is_in(leaking.implode())
    return images.with_columns(split=pl.when(out).then(pl.lit("out")).otherwise("split"))


def require_clean_training(questions: pl.DataFrame, images: pl.DataFrame, classes: pl.DataFrame, distance: int) -> None:
    """All checks of what is trained on; see the functions below. Raises UserError."""
    require_apart(images, distance)
    require_base_only(questions, classes)
    require_training_images(questions, images)


def require_apart(images: pl.DataFrame, distance: int) -> None:
    """Raises UserError if a picture is in training and test."""
    pairs = leaks(images, distance)
    if pairs.height:
        files = dict(zip(images["image_id"], images["dataset"] + "/" + images["file"], strict=True))
        splits = dict(images.select("image_id", "split").iter_rows())
        examples = "; ".join(
            f"{files[left]} ({left}, {splits[left]}) and {files[right]} ({right}, {splits[right]}), {bits} bits apart"
            for left, right, bits in pairs.head(SHOWN).iter_rows()
        )
        more = f"; and {pairs.height - SHOWN} more" if pairs.height > SHOWN else ""
        raise UserError(
            f"data/images.parquet: {pairs.height} pairs of the same picture in training and test (perceptual hashes "
            f"within leakage.hash_distance = {distance} of {HASH_BITS} bits): {examples}{more}; "
            "`dvc exp run -S data.drop_leaks=true` drops such training images, "
            "`python -m pipeline.stages.download --check` lists them"
        )


def require_base_only(questions: pl.DataFrame, classes: pl.DataFrame) -> None:
    """Raises UserError if a novel class is the truth or an option of a training question, by id or by name.

    Names are compared across data sets: the same class can be base in one and novel in another.
    """
    novel = classes.filter(subset="novel")
    by_id = {(dataset, class_id): name for dataset, class_id, name in novel["dataset", "class_id", "name"].rows()}
    by_name = {
        normalised(text): name for name, aliases in novel["name", "aliases"].iter_rows() for text in (name, *aliases)
    }
    names = {(dataset, class_id): name for dataset, class_id, name in classes["dataset", "class_id", "name"].rows()}
    places = []
    for image_id, dataset, truth, options in questions["image_id", "dataset", "class_id", "options"].iter_rows():
        shown = [
            (truth, names.get((dataset, truth), "")),
            *((option["class_id"], option["name"]) for option in options),
        ]
        for class_id, name in shown:
            novel_name = by_id.get((dataset, class_id)) or by_name.get(normalised(name))
            if novel_name:
                places.append((image_id, novel_name))
    if places:
        examples = ", ".join(f"{name!r} in the question of image {image_id}" for image_id, name in places[:SHOWN])
        raise UserError(
            f"data/hard.parquet: {len(places)} novel classes in training questions ({examples}); training may use "
            "base classes only: `dvc repro options` makes the questions again"
        )


def require_training_images(questions: pl.DataFrame, images: pl.DataFrame) -> None:
    """Raises UserError if a question is not about a training image."""
    _require(questions["image_id"], images, "train", "data/hard.parquet", "questions", "sample")


def require_answered_images(predictions: pl.DataFrame, images: pl.DataFrame) -> None:
    """Raises UserError if a result is not about a test image, or a decision not about a validation image."""
    for split in ("test", "val"):
        ids = predictions.filter(split=split)["image_id"]
        _require(ids, images, split, "data/predictions", "answers", "predict")


def _require(ids: Iterable[str], images: pl.DataFrame, split: str, file: str, what: str, stage: str) -> None:
    of_split = set(images.filter(split=split)["image_id"])
    rows = list(ids)
    others = [image_id for image_id in rows if image_id not in of_split]
    if others:
        raise UserError(
            f"{file}: {len(others)} of {len(rows)} {what} are not about {split} images of data/images.parquet, the "
            f"first about {others[0]}: `dvc repro {stage}` makes them again for the present images"
        )
