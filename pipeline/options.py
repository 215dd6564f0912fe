"""Turn each image's most frequent answers into a multiple-choice question.

Departures from the paper:
1. Votes are counted on cleaned names, and the least voted option gives way to the truth; the published code lost both
   in an unordered set.
2. Fewer than k classes named: the truth takes a free place instead of pushing an answer out, and nothing is filled in.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer
from numpy.typing import NDArray

from pipeline import params, rates, tables
from pipeline.cli import run
from pipeline.distractors import encoder, nearest_classes, random_classes
from pipeline.params import UserError
from pipeline.prompts import MAX_OPTIONS, letters
from pipeline.votes import NONE, SLACK, Ints, fewest_holding, matrix, ranking


@dataclass(frozen=True)
class OptionsParams:
    topk: int = params.key("topk", at_least=2, at_most=MAX_OPTIONS)
    seed: int = params.key("seed", at_least=0, at_most=params.LARGEST_SEED)
    strategy: str = params.key("options.strategy", one_of=("topk", "random", "text_embedding"))
    encoder: str = params.key("options.encoder", or_empty=True)
    model: str = params.key("model")
    mass: float = params.key("options.mass", above=0, at_most=1)


def ranked(class_ids: Sequence[int | None]) -> list[int]:
    """All classes named in the draws, most frequent first, ties by the lower first draw. Null draws do not count."""
    # A Counter keeps the order of first appearance, and most_common sorts stably: that is the tie rule.
    return [class_id for class_id, _ in Counter(c for c in class_ids if c is not None).most_common()]


def top_options(class_ids: Sequence[int | None], truth: int | None, k: int, mass: float = 1.0) -> list[int]:
    """The k most frequent classes of the draws, most frequent first, ties by the lower first draw.

    With a `mass` below 1 the fewest of these that hold this share of all votes. Where `truth` (None at test time) is
    not among them it comes last: in a free place if there are fewer than k, else in place of the least frequent.
    ValueError where k is less than 1.
    """
    if k < 1:
        raise ValueError(f"k is {k}, wanted at least 1")
    options = ranked(class_ids)[:k]
    if mass < 1:
        votes = Counter(class_id for class_id in class_ids if class_id is not None)
        held = [sum(votes[class_id] for class_id in options[: n + 1]) for n in range(len(options))]
        enough = [n + 1 for n, count in enumerate(held) if count >= mass * votes.total() - SLACK]
        options = options[: enough[0] if enough else k]
    if truth is None or truth in options:
        return options
    return [*options[: k - 1], truth]


def shuffled(options: Sequence[int], seed: int, image_id: str) -> list[int]:
    """The order shown, by image and not by class: no class gets a lucky letter."""
    return [options[place] for place in np.argsort(sort_keys([image_id], seed, len(options))[0], kind="stable")]


def sort_keys(image_ids: Iterable[str], seed: int, places: int) -> NDArray[np.uint64]:
    """(images, places): random numbers by whose size the options are shown; the first do not depend on `places`."""
    # The hash gives as many bytes as are asked for, and costs a tenth of seeding a generator for every image.
    seeded, size = hashlib.shake_128(f"{seed}/".encode()), 8 * places
    found = []
    for image_id in image_ids:
        stream = seeded.copy()
        stream.update(image_id.encode())
        found.append(stream.digest(size))
    return np.frombuffer(b"".join(found), "<u8").reshape(len(found), places)


def described(
    order: Sequence[int], class_ids: Sequence[int | None], names: Mapping[int, str], sources: Mapping[int, str] = {}
) -> list[dict[str, Any]]:
    """The options as the tables keep them, in the order shown. `sources` says of classes where they are from."""
    votes = Counter(class_ids)
    rank = {class_id: place for place, class_id in enumerate(ranked(class_ids), start=1)}
    return [
        {
            "class_id": class_id,
            "name": names[class_id],
            "votes": votes[class_id],
            "rank": rank.get(class_id),
            "source": sources.get(class_id, "draws" if class_id in rank else "truth"),
        }
        for class_id in order
    ]


def elsewhere(classes: pl.DataFrame, wanted: OptionsParams) -> Callable[[str, str, int], list[int]] | None:
    """Wrong options of an image (image_id, dataset, truth) that are not its own answers; None for topk."""
    if wanted.strategy == "topk":
        return None
    base = {
        str(dataset): rows.select("class_id", "name").rows()
        for (dataset,), rows in classes.filter(split="base").group_by("dataset", maintain_order=True)
    }
    if wanted.strategy == "random":
        ids = {dataset: [class_id for class_id, _ in rows] for dataset, rows in base.items()}
        count, seed = wanted.topk - 1, wanted.seed
        return lambda image_id, dataset, truth: random_classes(truth, ids[dataset], count, seed, image_id)
    embed = encoder(wanted.encoder, wanted.model)
    near: dict[tuple[str, int], list[int]] = {}
    for dataset, rows in base.items():
        places = nearest_classes([name for _, name in rows], wanted.topk - 1, embed)
        near |= {(dataset, rows[i][0]): [rows[j][0] for j in others] for i, others in enumerate(places)}
    return lambda image_id, dataset, truth: near[dataset, truth]


def questions(
    samples: pl.DataFrame, images: pl.DataFrame, classes: pl.DataFrame, wanted: OptionsParams
) -> pl.DataFrame:
    """Table of questions: one row for every image that was asked about.

    What `top_options`, `shuffled` and `described` say of one image, for all at once.
    """
    drawn = samples.sort("image_id", "draw").group_by("image_id", maintain_order=True).agg("class_id")
    truths = images.select("image_id", "dataset", truth="class_id")
    asked = drawn.join(truths, on="image_id", maintain_order="left")
    if asked.height < drawn.height:
        raise UserError(
            f"data/images.parquet: {drawn.height - asked.height} of {drawn.height} sampled images are not in it; "
            "`dvc repro sample` samples the images that are"
        )
    offered, truth = elsewhere(classes, wanted), asked["truth"].to_numpy()
    named, votes = ranking(matrix(asked["class_id"]))
    if offered is None:
        enough = fewest_holding(votes[:, : wanted.topk], votes.sum(axis=1), wanted.mass)
        options = np.where(np.arange(named.shape[1]) < enough[:, None], named, NONE)
    else:
        rows = asked.select("image_id", "dataset", "truth").iter_rows()
        options = matrix(pl.Series([offered(*row)[: wanted.topk - 1] for row in rows], dtype=pl.List(pl.Int64)))
    options, sizes = _with_truth(options, truth, wanted.topk)
    keys = sort_keys(asked["image_id"], wanted.seed, wanted.topk)
    taken = np.arange(wanted.topk) < sizes[:, None]
    turns = np.argsort(np.where(taken, keys, np.iinfo(np.uint64).max), axis=1, kind="stable")
    shown = np.take_along_axis(options, turns, axis=1)
    place, true = (shown == truth[:, None]).argmax(axis=1), named == truth[:, None]
    about = pl.DataFrame(
        {
            "answer": pl.Series(place).replace_strict(dict(enumerate(letters(MAX_OPTIONS)))),
            "truth_rank": np.where(true.any(axis=1), true.argmax(axis=1) + 1, 0),
            "truth_votes": (votes * true).sum(axis=1),
            "valid_draws": votes.sum(axis=1),
            "distinct": (votes > 0).sum(axis=1),
        }
    )
    found = asked.select("image_id", "dataset", class_id="truth").hstack(about)
    return found.with_columns(
        pl.when(pl.col("truth_rank") > 0).then("truth_rank"),
        _listed(shown, named, votes, found, classes, "draws" if offered is None else wanted.strategy),
    ).select(tables.QUESTIONS.schema.names())


def _with_truth(options: Ints, truth: Ints, k: int) -> tuple[Ints, Ints]:
    """The truth put in as `top_options` does, (images, k), and how many options there are, (images,)."""
    options = np.pad(options, ((0, 0), (0, max(0, k - options.shape[1]))), constant_values=NONE)[:, :k]
    lacking = ~(options == truth[:, None]).any(axis=1)
    last = np.minimum((options != NONE).sum(axis=1), k - 1)[lacking]
    options[lacking, last] = truth[lacking]
    return options, (options != NONE).sum(axis=1)


def _listed(
    shown: Ints, named: Ints, votes: Ints, asked: pl.DataFrame, classes: pl.DataFrame, source: str
) -> pl.Series:
    """The column of options."""
    same = shown[:, :, None] == named[:, None, :]
    drawn, place = same.any(axis=2), same.argmax(axis=2)
    rank, count = np.where(drawn, place + 1, 0), np.where(drawn, np.take_along_axis(votes, place, axis=1), 0)
    own = drawn if source == "draws" else shown != asked["class_id"].to_numpy()[:, None]
    there = shown != NONE
    row, columns = np.nonzero(there)[0], {"class_id": shown, "votes": count, "rank": rank, "own": own}
    flat = {"row": row, **{name: column[there] for name, column in columns.items()}}
    return (
        pl.DataFrame(flat)
        .with_columns(
            pl.when(pl.col("rank") > 0).then("rank"),
            pl.when("own").then(pl.lit(source)).otherwise(pl.lit("truth")).alias("source"),
            asked["dataset"].gather(row),
        )
        .join(classes.select("dataset", "class_id", "name"), on=["dataset", "class_id"], maintain_order="left")
        .group_by("row", maintain_order=True)
        .agg(options=pl.struct("class_id", "name", "votes", "rank", "source"))["options"]
    )


def main(
    samples: Annotated[Path, typer.Option(help="Table of samples.")] = Path("data/samples.parquet"),
    images: Annotated[Path, typer.Option(help="Table of images.")] = Path("data/images.parquet"),
    classes: Annotated[Path, typer.Option(help="Table of classes.")] = Path("data/classes.parquet"),
    out: Annotated[Path, typer.Option(help="Table of questions to write.")] = Path("data/questions.parquet"),
) -> None:
    """Turn each image's most frequent answers into a multiple-choice question."""
    wanted = params.load(OptionsParams)
    rows = questions(
        tables.read(tables.SAMPLES, samples, ["image_id", "draw", "class_id"]),
        tables.read(tables.IMAGES, images, ["image_id", "dataset", "class_id"]),
        tables.read(tables.CLASSES, classes),
        wanted,
    )
    tables.write(tables.QUESTIONS, rows, out)
    rates.note(images=rows.height)
    mean = rows["options"].list.len().sum() / rows.height
    inserted = rows["truth_rank"].is_null().sum()
    print(f"{rows.height} questions, {mean:.2f} options on average; the truth was never drawn for {inserted} images")


if __name__ == "__main__":
    run(main, OptionsParams)
