"""Accuracies with intervals and differences with tests, against counts by hand."""

import re

import polars as pl
import pytest
from support.scores import BENCH, ROWS, clustered, frame, random_predictions, random_scores

from pipeline.evaluation import comparison, metrics
from pipeline.evaluation.clusters import ClusteredScores
from pipeline.evaluation.intervals import holm, mcnemar, wilson
from pipeline.evaluation.results import details, report_tables
from pipeline.evaluation.scoring import score
from pipeline.evaluation.ways import WAYS


@pytest.fixture(scope="module")
def bench_scores() -> ClusteredScores:
    return clustered(random_scores().scores)


def test_accuracies_have_the_intervals_of_their_images_and_classes(bench_scores):
    table, result = comparison.accuracies(bench_scores), details(random_scores())
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


def test_differences_are_of_the_same_images(bench_scores):
    table = comparison.differences(bench_scores, comparison.questions_to_ask(bench_scores.ways))
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
    table = comparison.differences(clustered(scores), {"copies": [(("base", "vote"), ("again", "vote"))]})
    assert table["difference"].to_list() == [0.0] * 4
    assert table["p"].to_list() == [1.0] * 4


def test_the_order_of_the_rows_does_not_matter():
    test = random_predictions().filter(split="test")
    shuffled = test.sample(fraction=1.0, shuffle=True, seed=1).sort("model")
    for one, other in zip(*(both_tables(rows) for rows in (test, shuffled)), strict=True):
        assert one.equals(other)


def both_tables(rows):
    scores = clustered(score(rows).scores)
    return comparison.accuracies(scores), comparison.differences(scores, comparison.questions_to_ask(scores.ways))


def test_data_sets_count_alike():
    test = random_predictions().filter(split="test")
    other = test.head(100).with_columns(dataset=pl.lit("other"))
    rows = pl.concat([test, other, other.with_columns(model=pl.lit("trained"))])
    scored = score(rows.with_columns(image_id=pl.col("dataset") + pl.col("image_id")))
    table, result = comparison.accuracies(clustered(scored.scores)), details(scored)
    assert table["dataset"].unique(maintain_order=True).to_list() == ["all", "bench", "other"]
    votes = table.filter(metric="vote", model="base", subset="hm")
    expected = [
        result["base"]["vote"]["hm"],
        result["base"]["datasets"]["bench"]["vote"]["hm"],
        result["base"]["datasets"]["other"]["vote"]["hm"],
    ]
    assert votes["accuracy"].to_list() == pytest.approx(expected, abs=6e-5)


def test_one_class_has_no_interval_by_class():
    row = comparison.accuracies(clustered(score(frame(ROWS[0])).scores)).row(0, named=True)
    assert (row["subset"], row["accuracy"], row["low"]) == ("base", 0.5, None)


def test_the_questions_of_a_run():
    ways = [(model, way) for model in ("base", "trained") for way in ("one_step", "two_step", "rotated", "oracle")]
    questions = comparison.questions_to_ask([*ways, ("clip_x", "one_step"), ("clip_x", "oracle")])
    assert questions == {
        comparison.TRAINING: [(("base", way), ("trained", way)) for way in ("one_step", "two_step", "rotated")],
        "clip_x": [
            (("clip_x", "one_step"), ("trained", "one_step")),
            (("clip_x", "one_step"), ("trained", "two_step")),
        ],
        comparison.WAYS_WITHIN: [
            ((model, first), (model, second))
            for model in ("base", "trained")
            for first, second in (("one_step", "two_step"), ("two_step", "rotated"))
        ],
    }
    assert comparison.questions_to_ask([("base", "one_step"), ("base", "oracle")]) == {}


def test_every_question_is_one_family_of_holms_correction(bench_scores):
    table = comparison.differences(bench_scores, comparison.questions_to_ask(bench_scores.ways))
    assert set(table["question"]) == {comparison.TRAINING, comparison.WAYS_WITHIN}
    for _, rows in table.group_by("question"):
        smallest = rows.sort("p").row(0, named=True)
        assert smallest["p_holm"] == pytest.approx(min(1.0, rows.height * smallest["p"]), abs=rows.height * 5e-5)
        assert rows["p_holm"].to_list() == pytest.approx(holm(rows["p"].to_list()), abs=rows.height * 5e-5)


def test_the_mean_of_data_sets_and_each_of_them_are_two_families():
    test = random_predictions().filter(split="test")
    other = test.with_columns(dataset=pl.lit("other"), image_id="o" + pl.col("image_id"))
    scores = clustered(score(pl.concat([test, other]).sort("model")).scores)
    table = comparison.differences(scores, {"q": [(("base", "vote"), ("trained", "vote"))]})
    for scope in (pl.col("dataset") == "all", pl.col("dataset") != "all"):
        rows = table.filter(scope)
        assert rows["p_holm"].to_list() == pytest.approx(holm(rows["p"].to_list()), abs=1e-3)


def test_groups_of_classes_are_the_clusters_where_there_are_some():
    scores, classes = random_scores().scores, BENCH.classes()["class_id"].to_list()
    by_class, by_group = clustered(scores), clustered(scores, {number: f"genus {number // 5}" for number in classes})
    pairs = {"q": [(("base", "vote"), ("trained", "vote"))]}
    narrow, wide = (comparison.accuracies(one) for one in (by_class, by_group))
    assert set(narrow["cluster"]) == {"class"} and set(wide["cluster"]) == {"group"}
    counts = {subset: scores.filter(subset=subset)["class_id"].n_unique() for subset in ("base", "novel")}
    for subset, count in counts.items():
        assert set(narrow.filter(subset=subset)["clusters"]) == {count}
        assert set(wide.filter(subset=subset)["clusters"]) == {-(-count // 5)}
    assert narrow["accuracy"].to_list() == pytest.approx(wide["accuracy"].to_list(), abs=2e-4)
    assert not comparison.differences(by_class, pairs)["p"].equals(comparison.differences(by_group, pairs)["p"])


@pytest.mark.parametrize("number_of_groups", [0, 1])
def test_groups_that_cannot_be_compared_are_not_used(number_of_groups):
    """A class without a group, or one group in a subset, which says nothing of other groups."""
    scores, classes = random_scores().scores, BENCH.classes()["class_id"].to_list()
    groups = {number: "finch" for number in classes[number_of_groups == 0 :]}
    assert set(comparison.accuracies(clustered(scores, groups))["cluster"]) == {"class"}


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
