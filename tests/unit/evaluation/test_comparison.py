"""Accuracies with intervals and differences with tests, against counts by hand."""

import re

import polars as pl
import pytest
from support.scores import BENCH, ROWS, frame, random_predictions, random_scores

from pipeline.evaluation import comparison, metrics
from pipeline.evaluation.intervals import mcnemar, wilson
from pipeline.evaluation.resampling import Resampled
from pipeline.evaluation.results import details, report_tables
from pipeline.evaluation.scoring import score
from pipeline.evaluation.ways import WAYS


@pytest.fixture(scope="module")
def resampled() -> Resampled:
    return Resampled(random_scores().scores)


def test_accuracies_have_the_intervals_of_their_images_and_classes(resampled):
    table, result = comparison.accuracies(resampled), details(random_scores())
    assert table.height == 2 * len(WAYS) * len(metrics.AVERAGES)
    for row in table.iter_rows(named=True):
        assert row["accuracy"] == pytest.approx(result[row["model"]][row["metric"]][row["subset"]], abs=2e-4)
        assert row["low"] <= row["accuracy"] <= row["high"]
    row = table.filter(model="trained", metric="two_step", subset="novel").row(0, named=True)
    right = round(row["accuracy"] * row["n"])
    assert (row["wilson_low"], row["wilson_high"]) == pytest.approx(wilson(right, row["n"]), abs=6e-5)
    shares = table.filter(pl.col("subset") != "hm", pl.col("metric") != "pass@1")
    assert shares["wilson_low"].null_count() == 0
    assert table.filter(metric="pass@1")["wilson_low"].null_count() == 2 * len(metrics.AVERAGES), "a mean of shares"


def test_differences_are_of_the_same_images(resampled):
    table = comparison.differences(resampled, comparison.pairs_to_compare(resampled.ways))
    first, second = (random_scores().scores.filter(model=model).sort("image_id") for model in ("base", "trained"))
    row = table.row(
        by_predicate=(pl.col("second") == "trained vote") & (pl.col("subset") == "total"),
        named=True,
    )
    assert (row["first"], row["n"]) == ("base vote", 400)
    only_first = (first["vote"] > second["vote"]).sum()
    only_second = (second["vote"] > first["vote"]).sum()
    assert (row["only_first"], row["only_second"]) == (only_first, only_second)
    assert row["difference"] == pytest.approx((only_second - only_first) / 400, abs=6e-5)
    assert row["p_mcnemar"] == pytest.approx(mcnemar(only_first, only_second), abs=6e-5)
    assert row["low"] < row["difference"] < row["high"]
    assert (table["p_holm"] >= table["p"]).all()
    assert table.filter(subset="hm")["only_first"].null_count() == table.filter(subset="hm").height


def test_a_model_is_no_better_than_itself():
    base = random_predictions().filter(model="base", split="test")
    scores = score(pl.concat([base, base.with_columns(model=pl.lit("again"))])).scores
    table = comparison.differences(Resampled(scores), [(("base", "vote"), ("again", "vote"))])
    assert table["difference"].to_list() == [0.0] * 4
    assert table["p"].to_list() == [1.0] * 4


def test_the_order_of_the_rows_does_not_matter():
    test = random_predictions().filter(split="test")
    shuffled = test.sample(fraction=1.0, shuffle=True, seed=1).sort("model")
    for one, other in zip(*(both_tables(rows) for rows in (test, shuffled)), strict=True):
        assert one.equals(other)


def both_tables(rows):
    resampled = Resampled(score(rows).scores)
    pairs = comparison.pairs_to_compare(resampled.ways)
    return comparison.accuracies(resampled), comparison.differences(resampled, pairs)


def test_data_sets_count_alike():
    test = random_predictions().filter(split="test")
    other = test.head(100).with_columns(dataset=pl.lit("other"))
    rows = pl.concat([test, other, other.with_columns(model=pl.lit("trained"))])
    scored = score(rows.with_columns(image_id=pl.col("dataset") + pl.col("image_id")))
    table, result = comparison.accuracies(Resampled(scored.scores)), details(scored)
    assert table["dataset"].unique(maintain_order=True).to_list() == ["all", "bench", "other"]
    votes = table.filter(metric="vote", model="base", subset="hm")
    expected = [
        result["base"]["vote"]["hm"],
        result["base"]["datasets"]["bench"]["vote"]["hm"],
        result["base"]["datasets"]["other"]["vote"]["hm"],
    ]
    assert votes["accuracy"].to_list() == pytest.approx(expected, abs=6e-5)


def test_one_class_has_no_interval_by_class():
    row = comparison.accuracies(Resampled(score(frame(ROWS[0])).scores)).row(0, named=True)
    assert (row["subset"], row["accuracy"], row["low"]) == ("base", 0.5, None)


def test_the_pairs_of_a_run():
    ways = [(model, way) for model in ("base", "trained") for way in ("one_step", "two_step", "rotated", "oracle")]
    pairs = comparison.pairs_to_compare([*ways, ("clip_x", "one_step"), ("clip_x", "oracle")])
    between = [(("base", way), ("trained", way)) for way in ("one_step", "two_step", "rotated")]
    between += [(("clip_x", "one_step"), ("trained", "one_step")), (("clip_x", "one_step"), ("trained", "two_step"))]
    within = [
        ((model, first), (model, second))
        for model in ("base", "trained")
        for first, second in (("one_step", "two_step"), ("two_step", "rotated"))
    ]
    assert pairs == between + within


def test_the_gain_sentence_says_when_a_difference_is_not_significant():
    small = random_predictions().filter(pl.col("image_id") < f"{40:016x}")
    table = report_tables(score(small), BENCH.classes(), BENCH.TOPK)["differences"]
    assert re.search(
        r"^training changes two-step by [+-]\d+\.\d points \(.* to .*\): not significant; "
        r"minimum detectable difference \d+\.\d points at 40 images$",
        comparison.gain_sentence(table),
    )
    assert comparison.gain_sentence(table.clear()) == ""
    one_class = table.with_columns(pl.lit(None, pl.Float64).alias("low"))
    assert comparison.gain_sentence(one_class).endswith("points (one class: no interval)")


def test_the_gain_sentence_of_a_significant_difference():
    better = random_predictions().with_columns(
        two_step=pl.when(pl.col("model") == "trained").then("class_id").otherwise("two_step")
    )
    table = report_tables(score(better), BENCH.classes(), BENCH.TOPK)["differences"]
    assert re.search(r"by \+\d+\.\d points \(\+\d+\.\d to \+\d+\.\d\)$", comparison.gain_sentence(table))
