"""The paper's tables from the runs in this repository, beside the published numbers."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from pipeline.commands.paper_runs import (
    CELL_SETTINGS,
    SETS,
    Run,
    as_list,
    exclusion_line,
    flat,
    recorded_runs,
    rows_of,
    select,
    table_of,
)
from pipeline.core.files import write_text
from pipeline.core.params import UserError, all_params

PUBLISHED = Path(__file__).parent / "published.csv"  # arXiv 2511.18305; * is two-step inference
TITLES = {
    "base-to-novel": "Base to novel: trained on half of the classes; harmonic mean by data set, and the average",
    "hybrid": "Hybrid: one model for all five data sets",
    "few-shot": "Few-shot: four images of each class, accuracy",
}
COLUMNS = {
    "base-to-novel": (*SETS, "base", "novel", "hm", "mean_hm"),
    "hybrid": ("base", "novel", "hm", "mean_hm"),
    "few-shot": (*SETS, "base"),
}
HEADINGS = {"hm": "HM", "mean_hm": "mean of HMs"}
ROWS = (
    *("Gemini 2.5 flash lite", "GPT-5-mini", "CLIP", "CoOp", "FuDD"),
    *("SFT, full", "SFT, LoRA", "base model", "base model*"),
    *("ViRFT", "ViRFT*", "ViRFT, LoRA", "ViRFT, LoRA*", "DiVE-k", "DiVE-k*", "DiVE-k, LoRA", "DiVE-k, LoRA*"),
    *("other model", "other model*"),
)
RULE = (
    f"A run counts if it differs from the present params.yaml only in {', '.join(CELL_SETTINGS)}, and in settings that "
    "cannot change these numbers; of several runs with the same settings and seed the newest counts. In brackets: the "
    "number of seeds behind a number, for an average over data sets the smallest. The HM of an average is that of both "
    "averages, as in the paper; beside it is the mean of the data sets' HMs."
)

Cell = tuple[str, str, str, str]
"""Table, row, model and column."""


def cells(runs: Iterable[Run]) -> dict[Cell, dict[int, float]]:
    """Percentages by table, row, model and column, one for every seed.

    Args:
        runs: those that count, newest first: all of them have the base model, whatever was trained.
    """
    table: dict[Cell, dict[int, float]] = {}
    for run in runs:
        kind, prefix = str(table_of(run.settings)), ""
        if kind != "hybrid":
            prefix = f"{as_list(run.settings['dataset'])[0]} "
        for row, model, shares in rows_of(run):
            for column in ("base", "novel", "hm", "mean_hm"):
                if shares.get(column) is not None:
                    seeds = table.setdefault((kind, row, model, f"{prefix}{column}"), {})
                    seeds.setdefault(run.settings["seed"], 100 * shares[column])
    return table


def all_rows(cells: Mapping[Cell, Mapping[int, float]]) -> pl.DataFrame:
    """table, method, source, column, percent, seeds: the published numbers, and the means over the seeds of our runs.

    The average over the data sets needs all five; its HM is that of both averages, as in the paper.
    """
    published = pl.read_csv(PUBLISHED).with_columns(source=pl.lit("published"), seeds=pl.lit(None, pl.Int64))
    rows: list[dict[str, Any]] = []
    for (method,), block in published.filter(table="base-to-novel").group_by("method", maintain_order=True):
        values = dict(block.select("column", "percent").iter_rows())
        if mean := _mean([(values[name], 0) if name in values else None for name in SETS]):
            place = {"table": "base-to-novel", "method": method, "source": "published"}
            rows.append(place | {"column": "mean_hm", "percent": mean[0]})
    names = short_names({key[2] for key in cells})
    means = {key: (statistics.mean(values.values()), len(values)) for key, values in cells.items()}
    for kind, row, model in dict.fromkeys(key[:3] for key in means):
        own = {column: mean for (*place, column), mean in means.items() if tuple(place) == (kind, row, model)}
        for column, (percent, seeds) in (own if kind == "hybrid" else averaged(own, kind)).items():
            place = {"table": kind, "method": row, "source": names[model], "column": column}
            rows.append(place | {"percent": percent, "seeds": seeds})
    columns = ["table", "method", "source", "column", "percent", "seeds"]
    schema = {name: {"percent": pl.Float64, "seeds": pl.Int64}.get(name, pl.String) for name in columns}
    return pl.concat([published.select(columns), pl.DataFrame(rows, schema=schema)])


Mean = tuple[float, int]
"""A percentage, and the seeds behind it."""


def averaged(own: Mapping[str, Mean], kind: str) -> dict[str, Mean]:
    """The columns of a row by data set and their averages, from "cub base", "cub novel" and so on."""
    by_set = {name: own.get(f"{name} {'base' if kind == 'few-shot' else 'hm'}") for name in SETS}
    means = {column: _mean([own.get(f"{name} {column}") for name in SETS]) for column in ("base", "novel", "hm")}
    base, novel, mean_hm = means.values()
    both = None
    if base and novel:
        both = 2 * base[0] * novel[0] / max(base[0] + novel[0], 1e-9), min(base[1], novel[1])
    columns = by_set | {"base": base, "novel": novel, "hm": both, "mean_hm": mean_hm}
    return {name: mean for name, mean in columns.items() if mean}


def _mean(values: list[Mean | None]) -> Mean | None:
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return None
    return statistics.mean(percent for percent, _ in numbers), min(seeds for _, seeds in numbers)


def short_names(models: Iterable[str]) -> dict[str, str]:
    """The last part of every model's path or hub id; all of it where two models share that part."""
    short = {model: model.rpartition("/")[2] for model in sorted(models)}
    counts = Counter(short.values())
    return {model: name if counts[name] == 1 else model for model, name in short.items()}


def grid(table: pl.DataFrame, kind: str) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of one table; cells without a run are empty."""
    own = table.filter(table=kind)
    cells = own.select("method", "source", "column", "percent", "seeds").iter_rows()
    values = {tuple(place): f"{percent:.1f}" + (f" ({seeds})" if seeds else "") for *place, percent, seeds in cells}
    rows = [
        [method, source, *(values.get((method, source, column), "") for column in COLUMNS[kind])]
        for method in ROWS
        for source in dict.fromkeys(own.filter(method=method)["source"])
    ]
    return ["method", "source", *(HEADINGS.get(c, c) for c in COLUMNS[kind])], rows


def markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    marks = ["---", "---", *["---:"] * (len(head) - 2)]
    return [f"| {' | '.join(row)} |" for row in (head, marks, *rows)]


def latex(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [" & ".join(cell.replace("_", r"\_").replace("%", r"\%") for cell in row) + r" \\" for row in (head, *rows)]
    begin = [rf"\begin{{tabular}}{{ll{'r' * (len(head) - 2)}}}", r"\toprule", lines[0], r"\midrule"]
    return [*begin, *lines[1:], r"\bottomrule", r"\end{tabular}"]


def paper_tables(
    out: Annotated[Path, typer.Option(help="Markdown file to write; the LaTeX file is written beside it.")] = Path(
        "reports/paper.md"
    ),
) -> None:
    """Write the paper's Tables 1 to 3 from the runs in this repository, beside the published numbers.

    A run counts if it differs from the present params.yaml only in data set, model, seed, method, tuning and shots. Our
    numbers are means over the seeds. Nothing is entered by hand: cells without a run are empty.
    """
    runs = recorded_runs()
    if not runs:
        raise UserError("there is no run with results; `dvc repro` makes one, `dvc exp show` lists them")
    selection, exclusions = select(runs, flat(all_params()))
    table, exclusion_text = all_rows(cells(selection)), exclusion_line(exclusions)
    pages: dict[str, list[str]] = {
        ".md": ["# The paper's tables", "", f"{RULE} * marks two-step answers.", ""],
        ".tex": [f"% {RULE}", ""],
    }
    for kind, title in TITLES.items():
        head, rows = grid(table, kind)
        pages[".md"] += [f"## {title}", "", *markdown(head, rows), ""]
        pages[".tex"] += [f"% {title}", *latex(head, rows), ""]
    pages[".md"] += [f"{exclusion_text}.", ""]
    pages[".tex"] += [f"% {exclusion_text}", ""]
    for suffix, lines in pages.items():
        write_text(out.with_suffix(suffix), "\n".join(lines))
    print(f"{len(selection)} of {len(runs)} runs; {out} and {out.with_suffix('.tex').name} written")
    print(exclusion_text)
