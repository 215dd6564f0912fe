"""Compare two runs, by git revision or DVC experiment, on the images that both answered."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline.commands.revisions import names_of_revisions, table_at
from pipeline.commands.run_comparison import (
    arrow,
    difference_lines,
    distinct_labels,
    flip_lines,
    flipped_images,
    shared_images,
    ways_to_list,
)
from pipeline.core import tables
from pipeline.core.files import write_text
from pipeline.core.params import UserError
from pipeline.evaluation.clusters import ClusteredScores
from pipeline.evaluation.comparison import differences
from pipeline.evaluation.scoring import score
from pipeline.evaluation.ways import WAYS, answering

OWN = ("base", "trained")  # models with a table of their own; the further ones share one
CLASSES_FILE = "data/classes.parquet"


def predictions(revision: str, model: str) -> pl.DataFrame:
    """The predictions of `model` as they were at a revision or experiment. Raises UserError."""
    name = model if model in OWN else "baselines"
    rows = table_at(revision, tables.PREDICTIONS, f"data/predictions/{name}.parquet")
    models = rows["model"].unique(maintain_order=True).to_list()
    if model not in models:
        choices = ", ".join(dict.fromkeys((*OWN, *models)))
        raise UserError(
            f"{revision}: there is no model {model!r}, only {choices}; choose one of them with --model, or add it to "
            "evaluate.models and run `dvc repro`"
        )
    return rows.filter(model=model)


def answer_names() -> str:
    return ", ".join(way.name for way in answering())


def compare(
    first: Annotated[
        str,
        typer.Argument(help="Git revision or experiment to compare with.", autocompletion=names_of_revisions),
    ],
    second: Annotated[
        str, typer.Argument(help="Git revision or experiment to compare.", autocompletion=names_of_revisions)
    ],
    model: Annotated[
        str, typer.Option(help="Model: base, trained, or one of evaluate.models as the reports call it.")
    ] = "trained",
    second_model: Annotated[str | None, typer.Option(help="Model of the second run; by default the same.")] = None,
    answer: Annotated[
        str | None,
        typer.Option(
            help=f"Answer whose flips are listed, one of {answer_names()}; by default two_step where both runs have "
            "it, else one_step."
        ),
    ] = None,
    second_answer: Annotated[
        str | None,
        typer.Option(help="Answer of the second run. If it differs from --answer, only these two are compared."),
    ] = None,
    flips: Annotated[Path | None, typer.Option(help="CSV file to write all flipped images to.")] = None,
) -> None:
    """Compare two runs on the images that both answered: differences with intervals and p-values, and what flipped.

    Differences are second minus first. The two can also be two models of one run, or two answers of one model.
    Intervals and p are between classes, or groups of classes: they hold for other classes like these. McNemar's exact
    test is about these classes. Holm's p is corrected for all lines of the table.
    """
    for name in (answer, second_answer):
        if name is not None and name not in answer_names().split(", "):
            raise UserError(f"--answer {name}: there is no such answer; choose one of {answer_names()}")
    models = (model, second_model or model)
    names = f"{first} {models[0]}", f"{second} {models[1]}"
    if names[0] == names[1]:
        names = names[0], f"{names[1]} again"
    rows = shared_images(predictions(first, models[0]), predictions(second, models[1]), names)
    ways = ways_to_list(rows, names, (answer, second_answer))
    scored = score(rows)
    classes = table_at(first, tables.CLASSES, CLASSES_FILE)
    scores = ClusteredScores(scored.scores, classes)
    pairs = [((names[0], way.name), (names[1], way.name)) for way in WAYS if not way.is_bound]
    if ways[0] != ways[1]:
        pairs = [((names[0], ways[0]), (names[1], ways[1]))]
    pairs = [pair for pair in pairs if set(pair) <= set(scores.ways)]
    print("\n".join(difference_lines(differences(scores, {"runs": pairs}))))
    others = classes if first == second else table_at(second, tables.CLASSES, CLASSES_FILE)
    table = flipped_images(scored, names, ways, (classes, others))
    if flips:
        write_text(flips, tables.csv_text(table))
    labels = distinct_labels((first, models[0], ways[0]), (second, models[1], ways[1]))
    print("\n".join(flip_lines(table, labels, arrow(ways))))
