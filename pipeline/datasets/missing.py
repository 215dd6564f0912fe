"""Pictures that the index of a data set names and that are not there: found before any picture is read."""

from dataclasses import replace

import polars as pl

from pipeline.core.params import UserError
from pipeline.datasets.params import DataParams
from pipeline.datasets.selection import select_images
from pipeline.datasets.source import Source


def available_images(source: Source, params: DataParams) -> tuple[pl.DataFrame, UserError | None]:
    """The selected rows whose pictures are there, and what to raise where a selected one is not.

    With `params.partial` the selection is made among those that are there; their counts are printed. Rows as
    `source.rows`.
    """
    if not source.missing:
        return select_images(source, params), None
    is_missing = pl.col("path").is_in(list(source.missing))
    there, missing = source.rows.filter(~is_missing), source.rows.filter(is_missing)
    counts = _counts(there, missing)
    if params.partial and not there.is_empty():
        print(f"{source.name}: a part of the data set (data.partial): {counts} images")
        return select_images(replace(source, rows=there), params), None
    selected = select_images(source, params)
    rows = selected.filter(~is_missing)
    if rows.height == selected.height:
        return rows, None
    advice = "" if there.is_empty() else ", or use what is there with `dvc exp run -S data.partial=true`"
    return rows, UserError(
        f"{source.name}: {missing.height:,} of {source.rows.height:,} images are missing, the first "
        f"{missing['path'].min()!r}; {counts} are there; complete the folder data.path{advice}"
    )


def _counts(there: pl.DataFrame, missing: pl.DataFrame) -> str:
    """3 of 10 train, 5 of 5 test."""
    parts = []
    for split in ("train", "val", "test"):
        here, gone = (rows.filter(split=split).height for rows in (there, missing))
        parts += [f"{here:,} of {here + gone:,} {split}"] if here + gone else []
    return ", ".join(parts)
