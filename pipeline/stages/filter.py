"""Keep the questions that can teach: drop images whose draws agree on the truth, and count every reason."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core import tables, timings
from pipeline.core.cli import run
from pipeline.core.files import write_text
from pipeline.core.params import UserError, key, load_params
from pipeline.method.hard_filter import KEPT, REASONS, RULES, hard_questions, reasons


@dataclass(frozen=True)
class FilterParams:
    drop: str = key("filter.drop", one_of=tuple(RULES))


def main(
    questions: Annotated[Path, typer.Option(help="Table of questions.")] = Path("data/questions.parquet"),
    hard: Annotated[Path, typer.Option(help="Table of hard questions to write.")] = Path("data/hard.parquet"),
    counts: Annotated[Path, typer.Option(help="JSON file of reasons and counts to write.")] = Path(
        "reports/filter.json"
    ),
) -> None:
    """Keep the questions that can teach: drop images whose draws agree on the truth, and count every reason."""
    rule, rows = load_params(FilterParams).drop, tables.read(tables.QUESTIONS, questions)
    by_reason = {reason: int((reasons(rows, rule) == reason).sum()) for reason in REASONS}
    if not by_reason[KEPT]:
        raise UserError(
            f"{questions}: no question is left to train on ({by_reason}); look at the draws in data/samples.parquet, "
            "raise num_samples or sample.temperature, or set filter.drop or options.filler"
        )
    tables.write(tables.HARD, hard_questions(rows, rule), hard)
    timings.record(images=rows.height)
    write_text(counts, json.dumps({"questions": rows.height, **by_reason}, indent=2) + "\n")
    print(
        f"{by_reason[KEPT]} of {rows.height} questions kept; dropped: "
        + ", ".join(f"{reason} {count}" for reason, count in by_reason.items() if reason != KEPT)
    )


if __name__ == "__main__":
    run(main, FilterParams)
