"""The multiple-choice question: an image's own most frequent answers become its options.

In training the truth is put among them, at test time it is not; all else is the same code. All images are handled at
once: class ids stand in integer arrays with a row for each image, and NONE fills the places that are empty.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.core import tables
from pipeline.core.params import UserError
from pipeline.method.distractors import Distractors, random_distractors
from pipeline.method.prompts import MAX_OPTIONS, letters
from pipeline.method.votes import NONE, Ints, fewest_holding, matrix, ranking

LAST = np.iinfo(np.uint64).max  # sorts behind all others


def top_options(classes: Ints, votes: Ints, k: int, mass: float = 1.0) -> Ints:
    """(images, k): the k most frequent classes of each image, most frequent first, NONE where fewer were named.

    Args:
        classes, votes: (images, K), as `votes.ranking` gives them: ties are settled by the first draw.
        mass: below 1 only the fewest of the k classes that hold this share of all votes.
    """
    count = fewest_holding(votes[:, :k], votes.sum(axis=1), mass)
    return np.where(np.arange(k) < count[:, None], _of_width(classes, k), NONE)


def insert_truth(options: Ints, truth: Ints) -> Ints:
    """The options, (images, k), with the true class, (images,), among them.

    If it is missing it takes the first free place; where there is none, that of the least frequent option.
    """
    images, k = options.shape
    place = np.minimum((options != NONE).sum(axis=1), k - 1)
    missing = ~(options == truth[:, None]).any(axis=1)
    with_truth = options.copy()
    with_truth[np.arange(images)[missing], place[missing]] = truth[missing]
    return with_truth


def shuffle(options: Ints, image_ids: Iterable[str], seed: int) -> Ints:
    """The options, (images, k), in the order shown: by image and not by class, so that no class has a lucky letter."""
    keys = sort_keys(image_ids, seed, options.shape[1])
    order = np.argsort(np.where(options != NONE, keys, LAST), axis=1, kind="stable")
    return np.take_along_axis(options, order, axis=1)


def sort_keys(image_ids: Iterable[str], seed: int, places: int) -> NDArray[np.uint64]:
    """(images, places): random numbers by whose size the options are shown; the first do not depend on `places`."""
    # The hash gives any number of bytes, and costs a tenth of seeding a generator for every image.
    seeded, size = hashlib.shake_128(f"{seed}/".encode()), 8 * places
    digests = []
    for image_id in image_ids:
        stream = seeded.copy()
        stream.update(image_id.encode())
        digests.append(stream.digest(size))
    return np.frombuffer(b"".join(digests), "<u8").reshape(len(digests), places)


def own_options(
    draws: Ints, image_ids: pl.Series, datasets: pl.Series, classes: pl.DataFrame, k: int, seed: int, mass: float = 1.0
) -> pl.Series:
    """The options of each image at test time, as `tables.OPTION` structs in the order shown; empty if none was named.

    Args:
        draws: (images, K), the class that each draw names, NONE where it names none.
        image_ids, datasets: (images,).
        classes: the table of classes.
    """
    classes_by_votes, votes = ranking(draws)
    shown = shuffle(top_options(classes_by_votes, votes, k, mass), image_ids, seed)
    return _option_lists(shown, classes_by_votes, votes, datasets, classes)


def questions(
    samples: pl.DataFrame,
    images: pl.DataFrame,
    classes: pl.DataFrame,
    k: int,
    seed: int,
    mass: float = 1.0,
    distractors: Distractors | None = None,
    filler: int = 0,
) -> pl.DataFrame:
    """The table of questions: one row for every sampled image.

    Args:
        samples, images, classes: the tables of these names, the first two without texts and pictures if you like.
        distractors: other wrong options than the model's own answers, for comparison.
        filler: random base classes added to the model's own answers where these name at most one class.

    Raises:
        UserError: a sampled image is not in `images`.
    """
    draws = samples.sort("image_id", "draw").group_by("image_id", maintain_order=True).agg("class_id")
    rows = draws.join(images.select("image_id", "dataset", truth="class_id"), on="image_id", maintain_order="left")
    if rows.height < draws.height:
        raise UserError(
            f"data/images.parquet: {draws.height - rows.height} of {draws.height} sampled images are not in it; "
            "`dvc repro sample` samples the images that are"
        )
    truth = rows["truth"].to_numpy()
    classes_by_votes, votes = ranking(matrix(rows["class_id"]))
    places = rows.select("image_id", "dataset", "truth")
    if distractors is None:
        options = insert_truth(top_options(classes_by_votes, votes, k, mass), truth)
        few = np.flatnonzero((votes > 0).sum(axis=1) <= 1) if filler else np.empty(0, np.int64)
        if len(few):
            options[few] = _filled(options[few], places[few], random_distractors(classes, filler + 1, seed), filler)
    else:
        wrong = pl.Series([distractors.choose(*one)[: k - 1] for one in places.iter_rows()], dtype=pl.List(pl.Int64))
        options = insert_truth(_of_width(matrix(wrong), k), truth)
    shown = shuffle(options, rows["image_id"], seed)
    place, is_truth = (shown == truth[:, None]).argmax(axis=1), classes_by_votes == truth[:, None]
    counts = pl.DataFrame(
        {
            "answer": pl.Series(place).replace_strict(dict(enumerate(letters(MAX_OPTIONS)))),
            "truth_rank": np.where(is_truth.any(axis=1), is_truth.argmax(axis=1) + 1, 0),
            "truth_votes": (votes * is_truth).sum(axis=1),
            "draws": draws["class_id"].list.len().cast(pl.Int64),
            "valid_draws": votes.sum(axis=1),
            "distinct": (votes > 0).sum(axis=1),
        }
    )
    strategy = None if distractors is None else distractors.name
    return (
        rows.select("image_id", "dataset", class_id="truth")
        .hstack(counts)
        .with_columns(
            pl.when(pl.col("truth_rank") > 0).then("truth_rank"),
            _option_lists(shown, classes_by_votes, votes, rows["dataset"], classes, truth, strategy),
        )
        .select(tables.QUESTIONS.schema.names())
    )


def _filled(options: Ints, places: pl.DataFrame, random: Distractors, filler: int) -> Ints:
    """The options, (images, k), with as many of `filler` random classes as there are free places."""
    filled = options.copy()
    for row, place in zip(filled, places.iter_rows(), strict=True):
        others = [class_id for class_id in random.choose(*place) if class_id not in row][:filler]
        free = np.flatnonzero(row == NONE)[: len(others)]
        row[free] = others[: len(free)]
    return filled


def _of_width(classes: Ints, k: int) -> Ints:
    """(images, k): cut off, or filled with NONE."""
    return np.pad(classes, ((0, 0), (0, max(0, k - classes.shape[1]))), constant_values=NONE)[:, :k]


def _option_lists(
    shown: Ints,
    classes_by_votes: Ints,
    votes: Ints,
    datasets: pl.Series,
    classes: pl.DataFrame,
    truth: Ints | None = None,
    strategy: str | None = None,
) -> pl.Series:
    """The column of options: for each option its name, its votes and rank among the draws, and where it is from.

    An option comes from the draws, or it is the truth, or it is random; with a `strategy` all but the truth come from
    there, drawn or not.
    """
    same = shown[:, :, None] == classes_by_votes[:, None, :]
    drawn, place = same.any(axis=2), same.argmax(axis=2)
    rank, count = np.where(drawn, place + 1, 0), np.where(drawn, np.take_along_axis(votes, place, axis=1), 0)
    own = drawn if strategy is None else np.zeros_like(drawn)
    is_truth = own if truth is None else shown == truth[:, None]
    filled = shown != NONE
    row = np.nonzero(filled)[0]
    columns = {"class_id": shown, "votes": count, "rank": rank, "is_own": own, "is_truth": is_truth}
    options = (
        pl.DataFrame({"row": row, **{name: column[filled] for name, column in columns.items()}})
        .with_columns(
            pl.when(pl.col("rank") > 0).then("rank"),
            pl.when("is_own")
            .then(pl.lit("draws"))
            .when("is_truth")
            .then(pl.lit("truth"))
            .otherwise(pl.lit(strategy or "random"))
            .alias("source"),
            datasets.gather(row).alias("dataset"),
        )
        .join(classes.select("dataset", "class_id", "name"), on=["dataset", "class_id"], maintain_order="left")
        .group_by("row", maintain_order=True)
        .agg(options=pl.struct("class_id", "name", "votes", "rank", "source"))
    )
    every = pl.DataFrame({"row": np.arange(len(shown))}).join(options, on="row", how="left", maintain_order="left")
    return every["options"].cast(pl.List(tables.OPTION)).fill_null([]).alias("options")
