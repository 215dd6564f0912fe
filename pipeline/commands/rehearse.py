"""Run the whole pipeline on two images a class and two training steps, with the settings of params.yaml otherwise."""

from pathlib import Path

import polars as pl
import typer

from pipeline.commands.rehearsal import Rehearsal, RehearsalParams, rehearse_run
from pipeline.commands.rehearsal_findings import advice, answers, durations, memory, readability
from pipeline.commands.run_estimate import CostParams
from pipeline.core import tables
from pipeline.core.files import work_folder
from pipeline.core.params import load_params
from pipeline.core.terminal import printable


def rehearse() -> None:
    """Run the whole pipeline on two images a class and two training steps: does it fit, and what will it take?

    All other settings are those of params.yaml. It works in .work/rehearsal and changes neither tables nor models of
    the project; its draws stay in the draw cache, for the run itself. At the end it shows answers of the model, how
    many of them could be read, memory, hours and tokens of the whole run, and what to change. Exit code 1 where a stage
    fails.
    """
    params, cost = load_params(RehearsalParams), load_params(CostParams)
    folder = work_folder("rehearsal").resolve()
    rehearsal = rehearse_run(params, folder)
    print("\n" + printable("\n\n".join(sections(rehearsal, cost, folder / "data"))))
    if rehearsal.failure:
        raise typer.Exit(1)


def sections(rehearsal: Rehearsal, cost: CostParams, data: Path) -> list[str]:
    """The findings, each under a title."""
    samples = _table(tables.SAMPLES, data / "samples.parquet")
    predictions = _table(tables.PREDICTIONS, data / "predictions" / "base.parquet")
    rollouts = _table(tables.ROLLOUTS, data / "rollouts.parquet")
    parts = {
        "Answers of the model, verbatim": answers(samples, predictions),
        "What could be read": readability(samples, predictions, rollouts),
        "Peak memory": memory(rehearsal.timings),
    }
    if rehearsal.index is not None:
        classes = tables.read(tables.CLASSES, data / "classes.parquet")
        parts["The whole run, at these rates"] = durations(cost, rehearsal.index, classes, rehearsal.timings)
    parts["What to change"] = advice(
        samples, predictions, rollouts, rehearsal.timings, rehearsal.questions, rehearsal.failure
    )
    return [f"{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in parts.items()]


def _table(table: tables.Table, path: Path) -> pl.DataFrame:
    return tables.read(table, path) if path.is_file() else table.schema.to_frame()
