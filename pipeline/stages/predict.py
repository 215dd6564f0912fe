"""Answer every test image in two steps: K draws make the options, then the model chooses among them.

Departures from the paper:
1. A single option is the answer: no question is asked.
2. An answer that cannot be parsed is a wrong answer with a status; no image leaves the table.
3. A second table has the answers with base and novel classes as labels, where the paper admits those of the subset.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline.core import tables, timings
from pipeline.core.cli import run
from pipeline.core.model_language import require_prompt_for
from pipeline.core.params import load_params
from pipeline.engines.params import EngineParams
from pipeline.method.class_lists import ClassLists
from pipeline.method.predictions import UNION, PredictionParams, images_to_answer, predict


@dataclass(frozen=True)
class PredictParams(PredictionParams, EngineParams):
    pass


class Label(StrEnum):
    """What the tables call the two models."""

    base = "base"
    trained = "trained"


def main(
    model: Annotated[str, typer.Option(help="Model folder or hub id.")],
    label: Annotated[Label, typer.Option(help="What the table calls this model.")],
    out: Annotated[Path, typer.Option(help="Table of predictions to write.")],
    images: Annotated[Path, typer.Option(help="Table of images.")] = Path("data/images.parquet"),
    classes: Annotated[Path, typer.Option(help="Table of classes.")] = Path("data/classes.parquet"),
    union: Annotated[
        Path | None, typer.Option(help="The same with all classes as labels; by default beside --out, as <out>_union.")
    ] = None,
) -> None:
    """Answer every test image in two steps: K draws make the options, then the model chooses among them."""
    params = load_params(PredictParams)
    require_prompt_for(model, params.prompt)
    class_rows = tables.read(tables.CLASSES, classes)
    index = images_to_answer(images, class_rows, params.val_images)
    with_all = pl.DataFrame(schema=tables.PREDICTIONS.schema)
    with params.connect(model, params.samplers(), params.choice_prefix) as engine:
        rows = predict(engine, images, index, ClassLists(class_rows), params, label.value)
        if params.union and class_rows["subset"].n_unique() > 1:
            engine.read_again()  # the draws are the same: only choices among other options are new
            with_all = predict(engine, images, index, ClassLists(class_rows, "union"), params, label.value)
    tables.write(tables.PREDICTIONS, rows, out)
    tables.write(tables.PREDICTIONS, with_all, union or out.with_stem(f"{out.stem}{UNION}"))
    timings.record(images=rows.height)
    test = rows.filter(split="test")
    right = (test["two_step"] == test["class_id"]).sum() / max(1, test.height)
    print(
        f"{label}: {test.height} test images, {test['choice_text'].is_not_null().sum()} with a choice "
        f"({engine.counts()}), {right:.1%} right in two steps"
    )


if __name__ == "__main__":
    run(main, PredictParams)
