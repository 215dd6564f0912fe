"""Which images of a data set are used, and for what: held-out validation, few shots, limits, base and novel classes.

Every choice ranks the images of a class by a hash of seed and path: it depends on no order and on no other class.
"""

import hashlib

import polars as pl

from pipeline.datasets.params import DataParams
from pipeline.datasets.protocols import base_classes
from pipeline.datasets.source import Source


def select_images(source: Source, params: DataParams) -> pl.DataFrame:
    """The rows of `source` that are used, with their splits and subsets. Rows as `source.rows`."""
    rows = source.rows
    if not source.complete:
        rows = with_validation(rows, params.val_share, params.seed)
    if params.shots:
        few = first_of_class(rows, params.shots, f"shots {params.seed}")
        rows = rows.filter((pl.col("split") != "train") | few)
    if params.limit_per_class:
        rows = rows.filter(first_of_class(rows, params.limit_per_class, f"limit {params.seed}"))
    subset = pl.Series(subsets(source, params), dtype=pl.String)
    return rows.with_columns(subset=pl.col("class_id").map_elements(lambda i: subset[i], return_dtype=pl.String))


def trains_on_all(params: DataParams) -> bool:
    """Whether the settings make every class base."""
    return params.shots > 0 or params.base_classes == "all"


def subsets(source: Source, params: DataParams) -> list[str]:
    """base or novel, by class. With few shots every class is trained on, and none is novel."""
    count = len(source.names)
    if trains_on_all(params):
        return ["base"] * count
    if source.subsets:
        return list(source.subsets)
    order = list(range(count))
    if params.base_classes == "random_half":
        order.sort(key=lambda number: _rank(f"halves {params.seed}", source.names[number]))
    base = set(order[: base_classes(count)])
    return ["base" if number in base else "novel" for number in range(count)]


def with_validation(rows: pl.DataFrame, share: float, seed: int) -> pl.DataFrame:
    """A share of the training images of each class as validation images, where there are none; a class keeps one."""
    if not share or (rows["split"] == "val").any():
        return rows
    counts = rows.filter(split="train").group_by("class_id").agg(train=pl.len())
    held_out = (
        rows.join(counts, on="class_id", how="left", maintain_order="left")
        .with_columns(_rank=_ranks(rows, f"validation {seed}"))
        .select((pl.col("split") == "train") & (pl.col("_rank") < (pl.col("train") * share).round()))
        .to_series()
    )
    return rows.with_columns(split=pl.when(held_out).then(pl.lit("val")).otherwise("split"))


def first_of_class(rows: pl.DataFrame, count: int, purpose: str) -> pl.Series:
    """Which rows are among `count` of their class and split."""
    return _ranks(rows, purpose) < count


def _ranks(rows: pl.DataFrame, purpose: str) -> pl.Series:
    """The rank, from 0, of each image among those of its class and split."""
    order = pl.Series("_order", [_rank(purpose, path).hex() for path in rows["path"]], pl.String)
    ranks = pl.col("_order").rank("ordinal").over("class_id", "split").cast(pl.Int64) - 1
    return rows.with_columns(order).select(ranks).to_series()


def _rank(purpose: str, name: str) -> bytes:
    return hashlib.blake2b(f"{purpose}/{name}".encode(), digest_size=16).digest()
