"""Turn each image's most frequent answers into a multiple-choice question.

Departures from the paper:
1. Votes are counted on cleaned names, and the least voted option gives way to the truth; the published code lost both
   in an unordered set.
2. Fewer than k classes named: the truth takes a free place instead of pushing an answer out, and nothing is filled in,
   unless options.filler asks for it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline.core import tables, timings
from pipeline.core.cli import run
from pipeline.core.params import LARGEST_SEED, key, load_params
from pipeline.core.words import counted
from pipeline.method.distractors import Distractors, nearest_distractors, random_distractors
from pipeline.method.options import questions
from pipeline.method.prompts import MAX_OPTIONS


@dataclass(frozen=True)
class OptionsParams:
    topk: int = key("topk", at_least=2, at_most=MAX_OPTIONS)
    seed: int = key("seed", at_least=0, at_most=LARGEST_SEED)
    strategy: str = key("options.strategy", one_of=("topk", "random", "text_embedding"))
    encoder: str = key("options.encoder", or_empty=True)
    model: str = key("model")
    mass: float = key("options.mass", above=0, at_most=1)
    filler: int = key("options.filler", at_least=0)


def distractors(classes: pl.DataFrame, params: OptionsParams) -> Distractors | None:
    """Where the wrong options come from; None for topk: from the model's own answers."""
    if params.strategy == "topk":
        return None
    if params.strategy == "random":
        return random_distractors(classes, params.topk - 1, params.seed)
    from pipeline.engines.text_encoders import text_encoder

    return nearest_distractors(classes, params.topk - 1, text_encoder(params.encoder, params.model))


def main(
    samples: Annotated[Path, typer.Option(help="Table of samples.")] = Path("data/samples.parquet"),
    images: Annotated[Path, typer.Option(help="Table of images.")] = Path("data/images.parquet"),
    classes: Annotated[Path, typer.Option(help="Table of classes.")] = Path("data/classes.parquet"),
    out: Annotated[Path, typer.Option(help="Table of questions to write.")] = Path("data/questions.parquet"),
) -> None:
    """Turn each image's most frequent answers into a multiple-choice question."""
    params = load_params(OptionsParams)
    class_rows = tables.read(tables.CLASSES, classes)
    rows = questions(
        tables.read(tables.SAMPLES, samples, ["image_id", "draw", "class_id"]),
        tables.read(tables.IMAGES, images, ["image_id", "dataset", "class_id"]),
        class_rows,
        params.topk,
        params.seed,
        params.mass,
        distractors(class_rows, params),
        params.filler,
    )
    tables.write(tables.QUESTIONS, rows, out)
    timings.record(images=rows.height)
    mean = rows["options"].list.len().sum() / rows.height
    made, inserted = counted(rows.height, "question"), counted(rows["truth_rank"].null_count(), "image")
    print(f"{made}, {mean:.2f} options on average; the truth was never drawn for {inserted}")


if __name__ == "__main__":
    run(main, OptionsParams)
