"""Answer every test image by the further models of evaluate.models, as baselines of the comparison.

Departure from the paper, whose only such model is CLIP: any model folder, hub id or endpoint answers in the same two
steps, and prompt learning (CoOp) and pairwise descriptions (FuDD) use the same checkpoint as CLIP.
"""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline.baselines.classifier import ClassifierParams
from pipeline.baselines.further_models import FurtherModelParams, predict_further_models
from pipeline.core import tables, timings
from pipeline.core.cli import run
from pipeline.core.params import load_params


def main(
    images: Annotated[Path, typer.Option(help="Table of images.")] = Path("data/images.parquet"),
    classes: Annotated[Path, typer.Option(help="Table of classes.")] = Path("data/classes.parquet"),
    out: Annotated[Path, typer.Option(help="Table of predictions to write.")] = Path(
        "data/predictions/baselines.parquet"
    ),
) -> None:
    """Answer every test image by the further models of evaluate.models, as baselines of the comparison."""
    params, classifier_params = load_params(FurtherModelParams), load_params(ClassifierParams)
    rows = predict_further_models(images, tables.read(tables.CLASSES, classes), params, classifier_params)
    tables.write(tables.PREDICTIONS, rows, out)
    if params.models:
        timings.record(images=rows.height)
    right = (
        rows.filter(split="test")
        .group_by("model", maintain_order=True)
        .agg((pl.col("one_step") == pl.col("class_id")).fill_null(False).mean())
    )
    shares = ", ".join(f"{model} {share:.1%}" for model, share in right.iter_rows())
    print(f"{shares} right in one step" if shares else "evaluate.models is empty: no further models")


if __name__ == "__main__":
    run(main, FurtherModelParams, ClassifierParams)
