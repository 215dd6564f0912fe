"""Show which families of models work, how they draw, and why not in a faster way."""

import csv
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.params import UserError

TABLE = Path(__file__).parents[2] / "docs" / "families.csv"


def families(
    name: Annotated[
        str, typer.Argument(help="Only families whose name contains this, such as qwen; all by default.")
    ] = "",
) -> None:
    """Show every image-text-to-text family of transformers: how it draws, and why not in a faster way.

    The names are those of `model_type` in a model's config.json. `shared`: a prompt is read once, and its draws attend
    to one copy of it. `repeated`: it is read once, and copied where draws part. `generate`: it is read for every draw.
    `no`: the family does not work.
    """
    if not TABLE.is_file():
        raise UserError(f"{TABLE}: no such file; run the command in a clone of the repository")
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if name in row["family"]]
    if not rows:
        raise UserError(f"no family of transformers has {name!r} in its name; `python -m pipeline families` lists all")
    for row in rows:
        print(f"{row['family']:24}{row['how']:10}{row['reason']}".rstrip())
    working = sum(row["how"] != "no" for row in rows)
    print(f"{working} of {len(rows)} work; the engine says at the start of a stage which way it takes")
