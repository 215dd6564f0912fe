"""What the readers of data sets share: the index of images, and the class lists."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from pipeline.core.params import UserError
from pipeline.datasets.protocols import Row, base_classes

PROTOCOLS = ("official", "coop", "paper")

SCHEMA = pl.Schema(
    {"path": pl.String, "class_id": pl.Int64, "class_name": pl.String, "subset": pl.String, "split": pl.String}
)


def require_protocol(protocol: str, name: str, known: Sequence[str] = PROTOCOLS) -> None:
    """UserError for a protocol that the data set does not have."""
    if protocol not in known:
        problem = "CoOp has no split file of it" if protocol in PROTOCOLS else f"no protocol {protocol!r}"
        raise UserError(f"{name}: {problem}; set data.protocol to one of {', '.join(known)}")


def class_table(name: str) -> list[tuple[int, str, list[str]]]:
    """Our own class list of a data set, class_lists/<name>.csv: class_id from 0, name, aliases. Raises UserError."""
    return [
        (int(row["class_id"]), row["name"], [alias for alias in row["aliases"].split("|") if alias])
        for row in _class_list(name)
    ]


def class_groups(name: str) -> list[str]:
    """By class_id the group of the same list: look-alikes by name, make or family. Empty where it has none."""
    groups = [row.get("group") or "" for row in _class_list(name)]
    return groups if all(groups) else []


def _class_list(name: str) -> list[dict[str, str]]:
    tables = {table.stem: table for table in sorted((Path(__file__).parent / "class_lists").glob("*.csv"))}
    if name not in tables:
        raise UserError(f"there is no class list of a data set {name!r}, only of {', '.join(tables)}")
    with tables[name].open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def table(rows: Iterable[Row], names: Sequence[str], prefix: Path = Path()) -> pl.DataFrame:
    """Rows of SCHEMA, sorted by class and path; `prefix` is the way from the root to the data set's own folder."""
    base = base_classes(len(names))
    full = [
        ((prefix / path).as_posix(), class_id, names[class_id], "base" if class_id < base else "novel", split)
        for path, class_id, split in rows
    ]
    return pl.DataFrame(full, schema=SCHEMA, orient="row").sort("class_id", "path")
