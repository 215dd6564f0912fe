"""The paper's tables from the runs that are there, with the published numbers beside them."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from pipeline.files import write_text
from pipeline.params import UserError

PUBLISHED = Path(__file__).parent.parent / "published.csv"  # arXiv 2511.18305; * is two-step inference
SETS = ("flowers", "cub", "pets", "cars", "aircraft")
TITLES = {
    "base-to-novel": "Base to novel: trained on half of the classes; harmonic mean by data set, and the average",
    "hybrid": "Hybrid: one model for several data sets",
    "few-shot": "Few-shot: four images of each class, accuracy",
}
COLUMNS = {
    "base-to-novel": (*SETS, "base", "novel", "hm"),
    "hybrid": ("base", "novel", "hm"),
    "few-shot": (*SETS, "base"),
}
HEADINGS = {"hm": "HM"}
CLASSIFIERS = {"clip": ("CLIP", "one_step"), "coop": ("CoOp", "one_step"), "fudd": ("FuDD", "two_step")}
OTHERS = ("other model", "other model*")
ROWS = (
    *(row for row, _ in CLASSIFIERS.values()),
    *("SFT, full", "SFT, LoRA", "base model", "base model*", "ViRFT", "ViRFT*", "DiVE-k", "DiVE-k*"),
    *OTHERS,
)


@dataclass(frozen=True)
class Run:
    """What a table needs of one run: its data sets, model and method, its shots, and the metrics of its models."""

    datasets: tuple[str, ...]
    model: str
    method: str
    tuning: str
    shots: int
    metrics: dict[str, Any]


def rows_of(run: Run) -> Iterable[tuple[str, str, dict[str, Any]]]:
    """The rows of the tables that a run fills: method, model, and what the columns are read from."""
    titles = {"divek": "DiVE-k", "virft": "ViRFT", "sft": f"SFT, {'LoRA' if run.tuning == 'lora' else 'full'}"}
    for arm, mark in (("one_step", ""), ("two_step", "*")):
        yield f"base model{mark}", run.model, run.metrics["base"][arm]
        if run.method in titles and not (run.method == "sft" and mark):
            yield f"{titles[run.method]}{mark}", run.model, run.metrics["trained"][arm]
    for label, found in run.metrics.items():
        kind, _, name = label.partition("_")
        if kind in CLASSIFIERS and name:
            row, arm = CLASSIFIERS[kind]
            yield row, name, found[arm]
        elif label not in ("base", "trained"):
            for row, arm in zip(OTHERS, ("one_step", "two_step"), strict=True):
                yield row, label, found[arm]


def cells(runs: Iterable[Run]) -> dict[tuple[str, str, str, str], list[float]]:
    """Percentages by table, row, model and column, one for every run."""
    found: dict[tuple[str, str, str, str], list[float]] = {}
    for run in runs:
        kind = "hybrid" if len(run.datasets) > 1 else "few-shot" if run.shots else "base-to-novel"
        for row, model, shares in rows_of(run):
            for part in ("base", "novel", "hm"):
                if shares.get(part) is None:
                    continue
                columns = [part] if kind == "hybrid" else []
                if kind != "hybrid" and run.datasets[0] in SETS:
                    columns = [f"{run.datasets[0]} {part}"]
                for column in columns:
                    found.setdefault((kind, row, model, column), []).append(100 * shares[part])
    return found


def filled(found: dict[tuple[str, str, str, str], list[float]]) -> pl.DataFrame:
    """table, method, source, column, percent: what was published, and the means of our runs.

    The average over the data sets is there where all five are; its HM is that of both averages, as in the paper.
    """
    published = pl.read_csv(PUBLISHED).with_columns(source=pl.lit("published"))
    ours: list[dict[str, Any]] = []
    means = {key: statistics.mean(values) for key, values in found.items()}
    for kind, row, model in dict.fromkeys(key[:3] for key in means):
        own = {column: mean for (*place, column), mean in means.items() if tuple(place) == (kind, row, model)}
        if kind != "hybrid":
            halves = {part: [own.get(f"{name} {part}") for name in SETS] for part in ("base", "novel")}
            shown = {name: own.get(f"{name} {'base' if kind == 'few-shot' else 'hm'}") for name in SETS}
            averages = {part: _mean(values) for part, values in halves.items()}
            base, novel = averages["base"], averages["novel"]
            averages["hm"] = None if base is None or novel is None else 2 * base * novel / max(base + novel, 1e-9)
            own = {key: value for key, value in (shown | averages).items() if value is not None}
        ours += [
            {"table": kind, "method": row, "column": column, "percent": value, "source": model}
            for column, value in own.items()
        ]
    columns = ["table", "method", "source", "column", "percent"]
    schema = {name: pl.Float64 if name == "percent" else pl.String for name in columns}
    return pl.concat([published.select(columns), pl.DataFrame(ours, schema=schema)])


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if len(known) == len(values) else None


def grid(table: pl.DataFrame, kind: str) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of one table; what was never run is empty."""
    part = table.filter(table=kind)
    values = {(m, s, c): v for m, s, c, v in part.select("method", "source", "column", "percent").iter_rows()}
    rows = [
        [
            method,
            source,
            *(f"{values[method, source, c]:.1f}" if (method, source, c) in values else "" for c in COLUMNS[kind]),
        ]
        for method in ROWS
        for source in dict.fromkeys(part.filter(method=method)["source"])
    ]
    return ["method", "source", *(HEADINGS.get(c, c) for c in COLUMNS[kind])], rows


def markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    marks = ["---", "---", *["---:"] * (len(head) - 2)]
    return [f"| {' | '.join(row)} |" for row in (head, marks, *rows)]


def latex(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [" & ".join(cell.replace("_", r"\_").replace("%", r"\%") for cell in row) + r" \\" for row in (head, *rows)]
    begin = [rf"\begin{{tabular}}{{ll{'r' * (len(head) - 2)}}}", r"\toprule", lines[0], r"\midrule"]
    return [*begin, *lines[1:], r"\bottomrule", r"\end{tabular}"]


def present() -> list[Run]:
    """Every run whose metrics are there: the workspace, all commits' experiments, each once."""
    import dvc.api

    from pipeline.commands.suite import nested

    found: dict[str, Run] = {}
    for row in dvc.api.exp_show(num=-1):
        tree = nested(row)
        try:
            datasets = tree["dataset"]
            run = Run(
                tuple([datasets] if isinstance(datasets, str) else datasets),
                str(tree["model"]).rstrip("/").rpartition("/")[2],
                tree["train"]["method"],
                tree["train"]["tuning"],
                int(tree["data"]["shots"]),
                {"base": tree["base"], "trained": tree["trained"]} | rivals(tree),
            )
        except (KeyError, TypeError, ValueError):
            continue  # it failed, or is of a time before these settings
        found[repr((run, tree.get("seed")))] = run
    return list(found.values())


def rivals(tree: dict[str, Any]) -> dict[str, Any]:
    """What the metrics of a run say of further models, by their names."""
    others = {
        name: found for name, found in tree.items() if isinstance(found, dict) and name not in ("base", "trained")
    }
    return {name: found for name, found in others.items() if isinstance(found.get("one_step"), dict)}


def paper_tables(
    out: Annotated[Path, typer.Option(help="Markdown to write; LaTeX goes beside it.")] = Path("reports/paper.md"),
) -> None:
    """Write the paper's Tables 1 to 3 from the runs that are there, with the published numbers beside them.

    Ours are means over the seeds that were run. Nothing is filled in by hand: what was not run is empty.
    """
    runs = present()
    if not runs:
        raise UserError("no run with metrics is there; `dvc repro` makes one, `dvc exp show` lists them")
    table = filled(cells(runs))
    pages: dict[str, list[str]] = {".md": ["# The paper's tables", "", "* answered in two steps", ""], ".tex": []}
    for kind, title in TITLES.items():
        head, rows = grid(table, kind)
        pages[".md"] += [f"## {title}", "", *markdown(head, rows), ""]
        pages[".tex"] += [f"% {title}", *latex(head, rows), ""]
    for suffix, lines in pages.items():
        write_text(out.with_suffix(suffix), "\n".join(lines))
    print(f"{len(runs)} runs; {out} and {out.with_suffix('.tex').name} written")
