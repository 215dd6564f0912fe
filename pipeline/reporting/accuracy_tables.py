"""The tables of the page: accuracy of every way to answer, its upper bounds, and gains, all with their intervals."""

from typing import Any

import polars as pl

from pipeline.evaluation.metrics import SUBSETS
from pipeline.evaluation.ways import WAYS, Way, way
from pipeline.method.predictions import UNION
from pipeline.reporting.run_results import Cell, RunResults

ALL_ROWS = pl.lit(True)


def accuracies(results: RunResults, dataset: str = "all") -> list[dict[str, Any]]:
    """A group of rows for every model, baselines included: title, images by subset, and the rows.

    A row is the way's name, its title, and a cell for each of the averages that exist, None where it has none.
    """
    return _groups(results, [way for way in WAYS if not way.is_bound], dataset)


def bounds(results: RunResults, dataset: str = "all") -> list[dict[str, Any]]:
    """As `accuracies`, of the upper bounds, with the labels of the protocol."""
    return _groups(results, [way for way in WAYS if way.is_bound], dataset, ~pl.col("model").str.ends_with(UNION))


def _groups(results: RunResults, ways: list[Way], dataset: str, shown: pl.Expr = ALL_ROWS) -> list[dict[str, Any]]:
    rows = results.tables["accuracies"].filter(shown, dataset=dataset).drop_nulls("accuracy")
    groups = []
    for model in rows["model"].unique(maintain_order=True):
        cells = {(row["metric"], row["subset"]): row for row in rows.filter(model=model).iter_rows(named=True)}
        own = [way for way in ways if any((way.name, average) in cells for average in results.averages)]
        if own:
            name = own[0].name
            counts = {subset: cells[name, subset]["n"] for subset in SUBSETS if (name, subset) in cells}
            lines = [(way.name, way.title, [cells.get((way.name, a)) for a in results.averages]) for way in own]
            groups.append({"title": results.title(model), "counts": counts, "rows": lines})
    return groups


def cluster_counts(results: RunResults) -> str:
    """What the intervals treat as a random choice, with its numbers: "class (24 base, 24 novel)"."""
    rows = results.tables["accuracies"].filter(pl.col("dataset") == "all", pl.col("subset").is_in(SUBSETS))
    counts = dict(rows.drop_nulls("accuracy").select("subset", "clusters").iter_rows())
    kind = rows.sort(pl.col("cluster").str.len_chars())["cluster"][-1]
    names = {"group": "group of classes", "class or group": "class or group of classes"}
    return f"{names.get(kind, kind)} ({', '.join(f'{count} {subset}' for subset, count in counts.items())})"


def gains(results: RunResults, dataset: str = "all") -> list[tuple[str, list[Cell | None]]]:
    """What training and the second step changed, by average; pairs that were not compared are left out."""
    two_step, one_step = way("two_step"), way("one_step")
    pairs = {
        f"Training, {two_step.label}": ("base two_step", "trained two_step"),
        f"Training, {one_step.label}": ("base one_step", "trained one_step"),
        f"Second step, {results.models['base'].lower()}": ("base one_step", "base two_step"),
        "Second step, after training": ("trained one_step", "trained two_step"),
    }
    rows = results.tables["differences"].filter(dataset=dataset)
    lines = []
    for title, (first, second) in pairs.items():
        cells = {row["subset"]: row for row in rows.filter(first=first, second=second).iter_rows(named=True)}
        if cells:
            lines.append((title, [cells.get(average) for average in results.averages]))
    return lines
