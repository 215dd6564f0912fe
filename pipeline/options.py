"""Turn each image's most frequent answers into a multiple-choice question.

Departures from the paper:
1. Votes are counted on cleaned names, and the least voted option gives way to the truth; the published code lost both
   in an unordered set.
2. Fewer than k classes named: the truth takes a free place instead of pushing an answer out, and nothing is filled in.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from pipeline import params, tables
from pipeline.cli import run
from pipeline.distractors import encoder, nearest_classes, random_classes
from pipeline.params import UserError
from pipeline.prompts import MAX_OPTIONS, letters


@dataclass(frozen=True)
class OptionsParams:
    topk: int = params.key("topk", at_least=2, at_most=MAX_OPTIONS)
    seed: int = params.key("seed", at_least=0, at_most=params.LARGEST_SEED)
    strategy: str = params.key("options.strategy", one_of=("topk", "random", "text_embedding"))
    encoder: str = params.key("options.encoder", or_empty=True)
    model: str = params.key("model")


def ranked(class_ids: Sequence[int | None]) -> list[int]:
    """All classes named in the draws, most frequent first, ties by the lower first draw. Null draws do not count."""
    # A Counter keeps the order of first appearance, and most_common sorts stably: that is the tie rule.
    return [class_id for class_id, _ in Counter(c for c in class_ids if c is not None).most_common()]


def top_options(class_ids: Sequence[int | None], truth: int | None, k: int) -> list[int]:
    """The k most frequent classes of the draws, most frequent first, ties by the lower first draw.

    Where `truth` (None at test time) is not among them it comes last: in a free place if fewer than k were named, else
    in place of the least frequent. ValueError where k is less than 1.
    """
    if k < 1:
        raise ValueError(f"k is {k}, wanted at least 1")
    options = ranked(class_ids)[:k]
    if truth is None or truth in options:
        return options
    return [*options[: k - 1], truth]


def shuffled(options: Sequence[int], seed: int, image_id: str) -> list[int]:
    """The order shown, by image and not by class: no class gets a lucky letter."""
    order = list(options)
    random.Random(f"{seed}/{image_id}").shuffle(order)
    return order


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


def question(
    image_id: str,
    dataset: str,
    truth: int,
    class_ids: Sequence[int | None],
    names: Mapping[int, str],
    k: int,
    seed: int,
    offered: Sequence[int] | None = None,
    source: str = "",
) -> dict[str, Any]:
    """One row of the table of questions; `offered` are wrong options from elsewhere, from `source`."""
    options = top_options(class_ids, truth, k) if offered is None else [*offered[: k - 1], truth]
    sources = {} if offered is None else dict.fromkeys(offered, source) | {truth: "truth"}
    order = shuffled(options, seed, image_id)
    all_ranked = ranked(class_ids)
    return {
        "image_id": image_id,
        "dataset": dataset,
        "class_id": truth,
        "options": described(order, class_ids, names, sources),
        "answer": letters(len(order))[order.index(truth)],
        "truth_rank": all_ranked.index(truth) + 1 if truth in all_ranked else None,
        "truth_votes": class_ids.count(truth),
        "valid_draws": sum(class_id is not None for class_id in class_ids),
        "distinct": len(all_ranked),
    }


def elsewhere(classes: pl.DataFrame, wanted: OptionsParams) -> Callable[[str, str, int], list[int] | None]:
    """Wrong options of an image (image_id, dataset, truth) that are not its own answers; None for topk."""
    if wanted.strategy == "topk":
        return lambda image_id, dataset, truth: None
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
    """Table of questions: one row for every image that was asked about."""
    names: dict[str, dict[int, str]] = {}
    for dataset, class_id, name in classes.select("dataset", "class_id", "name").iter_rows():
        names.setdefault(dataset, {})[class_id] = name
    drawn = samples.sort("image_id", "draw").group_by("image_id", maintain_order=True).agg("class_id")
    truths = images.select("image_id", "dataset", truth="class_id")
    offered = elsewhere(classes, wanted)
    rows = [
        question(
            *(image_id, dataset, truth, class_ids, names[dataset], wanted.topk, wanted.seed),
            offered=offered(image_id, dataset, truth),
            source=wanted.strategy,
        )
        for image_id, class_ids, dataset, truth in drawn.join(truths, on="image_id", maintain_order="left").iter_rows()
    ]
    if len(rows) < drawn.height:
        raise UserError(
            f"data/images.parquet: {drawn.height - len(rows)} of {drawn.height} sampled images are not in it; "
            "`dvc repro sample` samples the images that are"
        )
    return pl.DataFrame(rows, schema=tables.QUESTIONS.schema)


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
    mean = rows["options"].list.len().sum() / rows.height
    inserted = rows["truth_rank"].is_null().sum()
    print(f"{rows.height} questions, {mean:.2f} options on average; the truth was never drawn for {inserted} images")


if __name__ == "__main__":
    run(main)
