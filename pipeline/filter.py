"""Keep the questions that can teach: drop images whose draws name the true class only, and count every reason."""

import json
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline import rates, tables
from pipeline.cli import run
from pipeline.files import write_text
from pipeline.params import UserError

KEPT, TRUTH_ONLY, NO_VALID_DRAW = "kept", "draws_name_the_truth_only", "no_draw_names_a_class"
ONE_OPTION = "one_option_only"  # where options.mass leaves the truth alone, or no other class is there to choose from


def verdicts(questions: pl.DataFrame) -> pl.Series:
    """Why each question is kept or dropped."""
    return questions.select(
        pl.when(pl.col("valid_draws") == 0)
        .then(pl.lit(NO_VALID_DRAW))
        .when(pl.col("truth_votes") == pl.col("valid_draws"))
        .then(pl.lit(TRUTH_ONLY))
        .when(pl.col("options").list.len() < 2)
        .then(pl.lit(ONE_OPTION))
        .otherwise(pl.lit(KEPT))
        .alias("verdict")
    )["verdict"]


def main(
    questions: Annotated[Path, typer.Option(help="Table of questions.")] = Path("data/questions.parquet"),
    hard: Annotated[Path, typer.Option(help="Table of hard questions to write.")] = Path("data/hard.parquet"),
    counts: Annotated[Path, typer.Option(help="JSON file of reasons and counts to write.")] = Path(
        "reports/filter.json"
    ),
) -> None:
    """Keep the questions that can teach, and count why the others were dropped."""
    rows = tables.read(tables.QUESTIONS, questions)
    reasons = verdicts(rows)
    kept = rows.filter(reasons == KEPT)
    found = {reason: int((reasons == reason).sum()) for reason in (KEPT, TRUTH_ONLY, NO_VALID_DRAW, ONE_OPTION)}
    if kept.is_empty():
        raise UserError(
            f"{questions}: no question is left to train on ({found}), wanted at least one; "
            "look at the draws in data/samples.parquet, or raise num_samples or sample.temperature"
        )
    tables.write(tables.HARD, kept, hard)
    rates.note(images=rows.height)
    write_text(counts, json.dumps({"questions": rows.height, **found}, indent=2) + "\n")
    print(
        f"{kept.height} of {rows.height} questions kept; dropped: "
        + ", ".join(f"{k} {v}" for k, v in found.items() if k != KEPT)
    )


if __name__ == "__main__":
    run(main)
