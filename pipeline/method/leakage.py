"""Leakage checks, as soon as images are there, before training and before evaluation: what fails would be worthless.

No picture in both training and test, by content and as the column `copies` says; no novel class in a training
question; training questions about training images only; results about test images only.
"""

from collections.abc import Iterable

import polars as pl

from pipeline.core.params import UserError
from pipeline.core.words import counted
from pipeline.method.spelling import normalised

COLUMNS = ["image_id", "dataset", "class_id", "split", "file", "status", "content", "perceptual_hash", "copies"]
"""Columns of the table of images that the checks read."""

TRAINING, TEST = ("train", "val"), ("test",)
SHOWN = 5  # examples in a message


def leaks(images: pl.DataFrame) -> pl.DataFrame:
    """Pairs of a training or validation image (left_id) and a test image (right_id) that show the same picture.

    Images that cannot be read are left out.

    Returns:
        left_id, right_id, distance (bits between the perceptual hashes), sorted by distance and ids.
    """
    readable = images.filter(status="ok")
    train, test = (readable.filter(pl.col("split").is_in(parts)) for parts in (TRAINING, TEST))
    pairs = pl.concat(
        train.join(test, on=key, suffix="_right").select(
            "perceptual_hash", "perceptual_hash_right", left_id="image_id", right_id="image_id_right"
        )
        for key in ("copies", "content")  # the latter in case a table was put together by hand
    ).unique(["left_id", "right_id"])
    bits = [hash_distance(*hashes) for hashes in pairs["perceptual_hash", "perceptual_hash_right"].iter_rows()]
    by_bits = pairs.select("left_id", "right_id", pl.Series("distance", bits, pl.Int64))
    return by_bits.sort("distance", "left_id", "right_id")


def hash_distance(one: str, other: str) -> int:
    """Bits between two perceptual hashes."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def without_leaks(images: pl.DataFrame) -> pl.DataFrame:
    """`images` with the split "out" for training and validation images that a test image repeats."""
    leaking = leaks(images)["left_id"].unique()
    out = pl.col("image_id").is_in(leaking.implode())
    return images.with_columns(split=pl.when(out).then(pl.lit("out")).otherwise("split"))


def require_clean_training(questions: pl.DataFrame, images: pl.DataFrame, classes: pl.DataFrame) -> None:
    """All checks of what is trained on; see the functions below. Raises UserError."""
    require_apart(images, classes)
    require_base_only(questions, classes)
    require_training_images(questions, images)


def require_apart(images: pl.DataFrame, classes: pl.DataFrame) -> None:
    """Raises UserError if a picture is in training and test."""
    pairs = leaks(images)
    if not pairs.height:
        return
    about = {row["image_id"]: row for row in images.select(COLUMNS).iter_rows(named=True)}
    names = {(dataset, class_id): name for dataset, class_id, name in classes["dataset", "class_id", "name"].rows()}

    def text(image_id: str, with_class: bool) -> str:
        row = about[image_id]
        name = f", {names.get((row['dataset'], row['class_id']), row['class_id'])}" if with_class else ""
        return f"{row['dataset']}/{row['file']} ({image_id}, {row['split']}{name})"

    def example(left: str, right: str, bits: int) -> str:
        one, other = (tuple(about[image_id][key] for key in ("dataset", "class_id")) for image_id in (left, right))
        return f"{text(left, one != other)} and {text(right, one != other)}, {bits} bits apart"

    examples = "; ".join(example(*pair) for pair in pairs.head(SHOWN).iter_rows())
    more = f"; and {pairs.height - SHOWN} more" if pairs.height > SHOWN else ""
    raise UserError(
        f"data/images.parquet: {counted(pairs['left_id'].n_unique(), 'training or validation image')} and "
        f"{counted(pairs['right_id'].n_unique(), 'test image')} show the same pictures, in "
        f"{counted(pairs.height, 'pair')}: {examples}{more}; "
        "`dvc exp run -S data.drop_leaks=true` drops such training images, "
        "`python -m pipeline.stages.download --check` lists the first 20 pairs"
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
            f"data/hard.parquet: {counted(len(places), 'name')} of novel classes in training questions ({examples}); "
            "training may use base classes only: `dvc repro options` makes the questions again"
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
