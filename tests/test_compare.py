"""Two runs compared on the images that both answered."""

import random

import polars as pl
import pytest
from test_evaluate import bench
from test_metrics import ROWS, frame

from pipeline import comparison, metrics, tables
from pipeline.commands.compare import compare, flipped, lines, shared
from pipeline.comparison import Resampled
from pipeline.params import UserError

NAMES = ("one", "two")


def run_of(seed, count=200):
    rng = random.Random(seed)
    rows = [bench.prediction(rng, "trained", f"{n:016x}", "test", n % 20) for n in range(count)]
    return pl.DataFrame(rows, schema=tables.PREDICTIONS.schema)


def test_only_images_that_both_answered_are_compared():
    rows = shared(run_of(0), run_of(1).head(150), NAMES)
    assert rows.group_by("model", maintain_order=True).len().rows() == [("one", 150), ("two", 150)]
    assert rows["image_id"].n_unique() == 150


def test_runs_of_other_images_cannot_be_compared():
    other = run_of(1).with_columns(image_id=pl.lit("x") + pl.col("image_id"))
    with pytest.raises(UserError, match=r"one and two answered no image alike \(200 and 200 images\)"):
        shared(run_of(0), other, NAMES)


def test_the_flips_are_those_that_mcnemar_counts():
    rows = shared(run_of(0), run_of(1), NAMES)
    pairs = [((NAMES[0], "two_step"), (NAMES[1], "two_step"))]
    table = comparison.differences(Resampled(metrics.scores(rows)), pairs)
    total = table.filter(part="total").row(0, named=True)
    changed = flipped(rows, NAMES, "two_step")
    counts = dict(changed["right"].value_counts().iter_rows())
    assert counts == {"first": total["only_first"], "second": total["only_second"]}
    assert (changed.filter(right="first").select(pl.col("first") == pl.col("class_id"))).to_series().all()
    assert (changed.filter(right="second").select(pl.col("second") == pl.col("class_id"))).to_series().all()


def test_the_table_says_points_intervals_and_tests():
    better = [row | {"model": "two", "two_step": row["class_id"]} for row in ROWS]
    both = frame(*(row | {"model": "one"} for row in ROWS), *better)
    pairs = [((NAMES[0], "two_step"), (NAMES[1], "two_step"))]
    said = lines(comparison.differences(Resampled(metrics.scores(both)), pairs))
    assert said[0].split()[:3] == ["answer", "part", "points"]
    base = said[1].split()
    assert base[:3] == ["two_step", "base", "+50.0"] and said[1].endswith("0 against 1")
    assert len(said) == 1 + len(metrics.PARTS)


def test_an_answer_that_is_none_is_refused():
    with pytest.raises(UserError, match="--answer gist: no such answer"):
        compare("HEAD", "HEAD", answer="gist")
