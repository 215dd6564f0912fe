"""Rows of a table by model, subset and data set, and means to which every data set contributes equally."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.evaluation.metrics import SUBSETS

DIGITS = 4
"""Decimals of accuracies and other shares in reports."""

RowGroups = list[NDArray[np.int64]]
"""Row numbers of each data set."""


def by_model(rows: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """Each model with its rows, in order of first appearance."""
    return [(str(model), own) for (model,), own in rows.group_by("model", maintain_order=True)]


def subset_masks(rows: pl.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """For every subset with images the rows that belong to it."""
    masks = {subset: (rows["subset"] == subset).to_numpy() for subset in SUBSETS}
    return {subset: mask for subset, mask in masks.items() if mask.any()}


def row_groups(rows: pl.DataFrame) -> dict[str, RowGroups]:
    """Row numbers of "base", "novel" and "total", where there are images.

    With several data sets also those of each of them, as "base_cub".
    """
    numbered = rows.select("dataset", "subset").with_row_index("row")
    several = rows["dataset"].n_unique() > 1
    groups: dict[str, RowGroups] = {}
    for subset in (*SUBSETS, "total"):
        own = numbered if subset == "total" else numbered.filter(subset=subset)
        blocks = {
            str(name): block["row"].to_numpy()
            for (name,), block in own.sort("dataset", "row").group_by("dataset", maintain_order=True)
        }
        if blocks:
            groups[subset] = list(blocks.values())
        if several:
            groups |= {f"{subset}_{name}": [block] for name, block in blocks.items()}
    return groups


def group_mean(scores: NDArray[Any], groups: RowGroups) -> Any:
    """Mean over the first axis; every data set counts the same, whatever its size."""
    return np.mean([scores[rows].mean(axis=0) for rows in groups], axis=0)


def round_floats(table: pl.DataFrame) -> pl.DataFrame:
    """The table with its floats rounded to DIGITS decimals, NaN as null."""
    return table.with_columns(pl.selectors.float().fill_nan(None).round(DIGITS))
