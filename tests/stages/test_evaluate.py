"""Intervals, differences and the tables behind the plots, on predictions that plain loops score too."""

import json
import random
import re
import sys

import numpy as np
import polars as pl
import pytest
from support.project import ROOT
from support.scores import ROWS, frame

from pipeline.core import tables
from pipeline.evaluation import comparison, curves, metrics
from pipeline.evaluation.comparison import Resampled
from pipeline.evaluation.intervals import mcnemar, wilson
from pipeline.evaluation.judge import verdict
from pipeline.evaluation.results import evaluate, pairs, results, vote_thresholds
from pipeline.method.early_stop import LOOK_EVERY
from pipeline.method.options import top_options
from pipeline.method.votes import decided, leaders
from pipeline.stages.options import described

sys.path.append(str(ROOT / "bench"))
import evaluate as bench


@pytest.fixture(scope="module")
def predictions() -> pl.DataFrame:
    """Two models, 400 test images and 100 validation images, 200 classes."""
    rng = random.Random(0)
    asked = [(f"{n:016x}", "test", n % 200) for n in range(400)] + [(f"v{n:015x}", "val", n) for n in range(100)]
    rows = [bench.prediction(rng, model, *one) for model in ("base", "trained") for one in asked]
    return pl.DataFrame(rows, schema=tables.PREDICTIONS.schema)


@pytest.fixture(scope="module")
def resampled(predictions) -> Resampled:
    test = predictions.filter(split="test")
    return Resampled(metrics.scores(test, vote_thresholds(predictions.filter(split="val"))))


def test_a_plain_loop_finds_the_same_means_and_curves(predictions):
    plain, found = bench.plain_scores(list(predictions.iter_rows(named=True))), evaluate(predictions)
    for (model, subset, metric), mean in plain["means"].items():
        assert found[model][metric][subset] == pytest.approx(mean, abs=6e-5), (model, subset, metric)
    drawn = curves.by_draws(predictions.filter(split="test"), bench.TOPK)
    assert drawn["draws"].to_list() == list(range(1, bench.K + 1))
    for (model, subset, metric, count), mean in plain["curves"].items():
        value = drawn[f"{metric}_{model}_{subset}"][count - 1]
        # The vote and the oracle are means over several orders of the draws, the loop knows one.
        assert value == pytest.approx(mean, abs=6e-5 if metric == "pass" else 0.08)


def test_arms_have_the_intervals_of_their_images_and_classes(predictions, resampled):
    table, found = comparison.arms(resampled), evaluate(predictions)
    assert table.height == 2 * len(metrics.METRICS) * len(metrics.PARTS)
    for row in table.iter_rows(named=True):
        assert row["accuracy"] == pytest.approx(found[row["model"]][row["metric"]][row["part"]], abs=2e-4)
        assert row["low"] <= row["accuracy"] <= row["high"]
    row = table.filter(model="trained", metric="two_step", part="novel").row(0, named=True)
    right = round(row["accuracy"] * row["n"])
    assert (row["wilson_low"], row["wilson_high"]) == pytest.approx(wilson(right, row["n"]), abs=6e-5)
    shares = table.filter(pl.col("part") != "hm", pl.col("metric") != "pass@1")
    assert shares["wilson_low"].null_count() == 0
    assert table.filter(metric="pass@1")["wilson_low"].null_count() == 2 * len(metrics.PARTS), "a mean of shares"


def test_differences_are_of_the_same_images(predictions, resampled):
    table = comparison.differences(resampled, pairs(resampled.ways))
    scored = metrics.scores(predictions.filter(split="test"), vote_thresholds(predictions.filter(split="val")))
    first, second = (scored.filter(model=model).sort("image_id") for model in ("base", "trained"))
    row = table.row(
        by_predicate=(pl.col("second") == "trained vote") & (pl.col("part") == "total"),
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
    assert table.filter(part="hm")["only_first"].null_count() == table.filter(part="hm").height


def test_a_model_is_no_better_than_itself(predictions):
    base = predictions.filter(model="base", split="test")
    scored = metrics.scores(pl.concat([base, base.with_columns(model=pl.lit("again"))]))
    table = comparison.differences(Resampled(scored), [(("base", "vote"), ("again", "vote"))])
    assert table["difference"].to_list() == [0.0] * 4
    assert table["p"].to_list() == [1.0] * 4


def test_the_order_of_the_rows_does_not_matter(predictions):
    test = predictions.filter(split="test")
    mixed = test.sample(fraction=1.0, shuffle=True, seed=1).sort("model")
    for files in zip(*(comparison_files(rows) for rows in (test, mixed)), strict=True):
        assert files[0].equals(files[1])


def comparison_files(rows):
    resampled = Resampled(metrics.scores(rows))
    return comparison.arms(resampled), comparison.differences(resampled, pairs(resampled.ways))


def test_data_sets_count_alike(predictions):
    other = predictions.filter(split="test").head(100).with_columns(dataset=pl.lit("other"))
    rows = pl.concat([predictions.filter(split="test"), other, other.with_columns(model=pl.lit("trained"))])
    rows = rows.with_columns(image_id=pl.col("dataset") + pl.col("image_id"))
    table, found = comparison.arms(Resampled(metrics.scores(rows))), evaluate(rows)
    assert table["dataset"].unique(maintain_order=True).to_list() == ["all", "bench", "other"]
    of = table.filter(metric="vote", model="base", part="hm")
    wanted = [
        found["base"]["vote"]["hm"],
        found["base"]["datasets"]["bench"]["vote"]["hm"],
        found["base"]["datasets"]["other"]["vote"]["hm"],
    ]
    assert of["accuracy"].to_list() == pytest.approx(wanted, abs=6e-5)


def test_one_class_has_no_interval_by_class():
    row = comparison.arms(Resampled(metrics.scores(frame(ROWS[0])))).row(0, named=True)
    assert (row["part"], row["accuracy"], row["low"]) == ("base", 0.5, None)


def test_stopping_never_changes_nothing(predictions):
    table = curves.early_stops(predictions.filter(split="test"), bench.TOPK)
    never = table.row(by_predicate=(pl.col("rule") == "never") & (pl.col("model") == "base"), named=True)
    found = evaluate(predictions)["base"]
    assert never["draws_saved"] == 0
    for subset in metrics.SUBSETS:
        assert never[f"vote_{subset}"] == pytest.approx(found["vote"][subset], abs=6e-5)
        assert never[f"two_step_{subset}"] == pytest.approx(found["two_step"][subset], abs=6e-5)
    assert never["same_vote"] == 1 and never["n_base"] == never["n_novel"] == 200
    saved = dict(table.filter(model="base").select("rule", "draws_saved").rows())
    assert saved["order"] <= saved["vote 0.99"] <= saved["vote 0.95"] <= saved["vote 0.8"]
    assert saved["vote 0.8"] > 0.1
    order = table.row(by_predicate=(pl.col("rule") == "order") & (pl.col("model") == "base"), named=True)
    assert order["vote_base"] == never["vote_base"], "what is settled does not change"
    same = dict(table.filter(model="base").select("rule", "same_vote").rows())
    assert 0.5 < same["vote 0.8"] <= same["vote 0.99"] <= same["order"] == 1


def test_stopping_is_looked_at_as_often_as_predict_looks():
    draws = np.array([[0] * 20, [0, 1] * 10], np.int64)
    assert decided(leaders(draws, 2), 0.9).tolist() == [3, 20]
    assert decided(leaders(draws, 2), 0.9, LOOK_EVERY).tolist() == [4, 20]
    rows = pl.concat([frame(ROWS[0] | {"draws": [0] * 20}), frame(ROWS[2] | {"draws": [0] * 20})])
    table = {row["rule"]: row for row in curves.early_stops(rows, 5).iter_rows(named=True)}
    assert table["vote 0.9"]["draws_saved"] == 0.8, "4 of 20 draws"


def test_draws_that_were_stopped_early_tell_nothing_of_other_stops():
    rows = frame(ROWS[0], ROWS[1] | {"draws": [0] * 3})
    table = curves.early_stops(rows, 5)
    assert table.height == 0 and "draws_saved" in table.columns
    assert curves.early_stops(rows, 5, 0.5).height == 0


def test_no_order_is_settled_where_a_share_of_the_votes_counts(predictions):
    test = predictions.filter(split="test")
    assert "order" in set(curves.early_stops(test, 5)["rule"])
    assert "order" not in set(curves.early_stops(test, 5, 0.9)["rule"])


@pytest.mark.parametrize("mass", [0.5, 0.8, 1.0])
def test_the_oracle_of_all_draws_is_that_of_the_options(predictions, mass):
    def offered(row):
        order = top_options(row["draws"], None, bench.TOPK, mass)
        return described(order, row["draws"], bench.NAMES)

    test = predictions.filter(split="test", model="base")
    options = [offered(row) for row in test.iter_rows(named=True)]
    test = test.with_columns(pl.Series("options", options, test.schema["options"]))
    last = curves.by_draws(test, bench.TOPK, mass).row(-1, named=True)
    wanted = metrics.scores(test).filter(subset="base")["oracle"].mean()
    assert last["oracle_base_base"] == pytest.approx(wanted, abs=0.02), "but for ties, which the order of draws settles"


def test_several_data_sets_count_alike_in_curves_as_in_metrics(predictions):
    test = predictions.filter(split="test")
    small = test.filter(pl.col("class_id") % 7 == 0).with_columns(
        dataset=pl.lit("other"), image_id="o" + pl.col("image_id"), class_id=pl.lit(3, pl.Int64)
    )
    both = pl.concat([test, small])
    wanted = evaluate(both)["trained"]
    last = curves.by_draws(both, bench.TOPK).row(-1, named=True)
    for part in ("base", "novel", "total"):
        assert last[f"pass_trained_{part}"] == pytest.approx(wanted["pass@K"][part], abs=6e-5)
        own = wanted["datasets"]["other"]["pass@K"][part]
        assert last[f"pass_trained_{part}_other"] == pytest.approx(own, abs=6e-5)
    cost = curves.cost(both.filter(model="trained"), {})
    found = dict(cost.select("answer", "accuracy").rows())
    assert found["two_step"] == pytest.approx(wanted["two_step"]["total"], abs=6e-5)
    stops = curves.early_stops(both.filter(model="trained"), bench.TOPK).row(0, named=True)
    assert stops["vote_novel"] == pytest.approx(wanted["vote"]["novel"], abs=6e-5)
    rows = results(both, bench.classes(), bench.TOPK)["differences"].filter(part="total")
    pooled = pl.col("dataset") == "all"
    assert rows.filter(pooled)["p_mcnemar"].null_count() == rows.filter(pooled).height, "it counts images"
    assert rows.filter(~pooled, pl.col("only_first").is_not_null())["p_mcnemar"].null_count() == 0


def test_tokens_are_counted_for_what_was_asked(predictions):
    rows = predictions.filter(split="test", model="base")
    table = {row["answer"]: row for row in curves.cost(rows, {"base": 0.5}).iter_rows(named=True)}
    asked = rows["choice_text"].is_not_null()
    assert table["one_step"]["generated_tokens"] == 12 and table["vote"]["generated_tokens"] == 240
    assert table["two_step"]["generated_tokens"] == pytest.approx(240 + 40 * asked.mean(), abs=6e-5)
    share = rows.select(metrics.VOTE_SHARE.alias("share"))["share"]
    assert table["cascade"]["second_questions"] == pytest.approx((asked & (share < 0.5)).mean(), abs=6e-5)
    orders = rows["options"].list.len().filter(asked).sum() / rows.height
    assert table["rotated"]["second_questions"] == pytest.approx(orders, abs=6e-5)
    vote = table["vote"]
    assert vote["right_per_1000_tokens"] == pytest.approx(1000 * vote["accuracy"] / 240, abs=1e-3)


def test_letters_are_counted_where_they_were_shown(predictions):
    rows = predictions.filter(split="test", model="base")
    table = curves.letters(rows)
    asked = rows.filter(pl.col("choice_text").is_not_null())
    first = table.row(0, named=True)
    assert first == {
        "model": "base",
        "letter": "A",
        "shown": asked.height,
        "chosen": asked.filter(letter="A").height,
        "truth": sum(row["options"][0]["class_id"] == row["class_id"] for row in asked.iter_rows(named=True)),
        "right": asked.filter(pl.col("letter") == "A", pl.col("two_step") == pl.col("class_id")).height,
        **turned_letters(asked, 0),
    }
    assert table["truth"].sum() == evaluate(rows)["base"]["letter_choice"]["n"]


def turned_letters(asked, place):
    """What stood at a letter and was chosen over all orders, counted order by order."""
    found = dict.fromkeys(("shown_rotated", "chosen_rotated", "truth_rotated", "right_rotated"), 0)
    for row in asked.iter_rows(named=True):
        ids = [option["class_id"] for option in row["options"]]
        for rotation, answer in enumerate([row["two_step"], *row["rotated"]]):
            there = (ids[rotation:] + ids[:rotation])[place]
            found["shown_rotated"] += 1
            found["chosen_rotated"] += answer == there
            found["truth_rotated"] += there == row["class_id"]
            found["right_rotated"] += answer == there == row["class_id"]
    return found


def test_confidence_of_draws_that_are_right_as_often_as_they_agree():
    rng = np.random.default_rng(0)
    rows = []
    for number in range(600):
        votes = int(rng.integers(1, 5))
        truth = 0 if rng.random() < votes / 4 else 1
        row = ROWS[0] | {
            "image_id": f"{number}",
            "class_id": truth,
            "vote": 0,
            "split": "val" if number < 300 else "test",
        }
        rows.append(row | {"options": [{"class_id": 0, "name": "0", "votes": votes, "rank": 1, "source": "draws"}]})
    both = frame(*rows)
    found = evaluate(both, precision=0.7)["base"]["confidence"]["vote"]
    assert found["threshold"] == 0.5 or found["threshold"] == 0.75
    assert found["base"]["ece"] < 0.08
    assert found["base"]["precision"] == pytest.approx(0.8, abs=0.1)
    table = curves.calibration(both.filter(split="val"), both.filter(split="test"))
    assert table["confidence_vote_base_base"].is_sorted() and table["tenth"].to_list() == list(range(1, 11))
    gaps = table["confidence_vote_base_base"] - table["accuracy_vote_base_base"]
    assert gaps.abs().max() < 0.25 and abs(gaps.mean()) < 0.05
    right = metrics.scores(both.filter(split="test"))["vote"].mean()
    assert table["accuracy_vote_base_base"].mean() == pytest.approx(right, abs=1e-3), "tenths of as many images"
    risk = curves.risks(both.filter(split="test"))
    assert risk["coverage"].to_list()[-1] == 1.0
    wrong = 1 - metrics.scores(both.filter(split="test"))["vote"].mean()
    assert risk["vote_base_base"].to_list()[-1] == pytest.approx(wrong, abs=6e-5)
    assert risk["vote_base_base"].to_list()[0] < wrong


def test_classes_and_those_mixed_up(predictions):
    test, kinds = predictions.filter(split="test"), bench.classes()
    table = curves.by_class(test, kinds)
    assert table.height == 200 and table["n"].sum() == 400
    one = table.filter(name="kind 3").row(0, named=True)
    own = metrics.scores(test.filter(model="trained", class_id=3))
    assert one["two_step_trained"] == pytest.approx(own["two_step"].mean(), abs=6e-5)
    mixed = curves.confusion(test.filter(model="trained"), kinds)
    assert mixed.height and set(mixed["predicted"]) <= set(mixed["actual"]) | set(mixed["predicted"])
    assert mixed["actual"].n_unique() <= curves.WORST


def test_every_result_is_one_file_that_dvc_knows(predictions):
    named = (ROOT / "dvc.yaml").read_text()
    files = results(predictions, bench.classes(), bench.TOPK)
    assert all(f"reports/{name}.csv:" in named for name in files)
    assert all(table.height for table in files.values())
    assert json.dumps(evaluate(predictions))


def test_without_validation_images_nothing_is_decided(predictions):
    test = predictions.filter(split="test")
    found = evaluate(test)["trained"]
    assert found["gate"] is None and found["confidence"] == {}
    assert found["cascade"] == found["two_step"]
    assert results(test, bench.classes(), bench.TOPK)["calibration"].height == 10


def test_it_is_said_when_there_are_too_few_images_to_tell(predictions):
    small = results(predictions.filter(pl.col("image_id") < f"{40:016x}"), bench.classes(), bench.TOPK)["differences"]
    assert re.search(
        r"changes two-step by [+-]\d+\.\d points \(.* to .*\): not told from nothing, 40 images show", verdict(small)
    )
    better = predictions.with_columns(
        two_step=pl.when(pl.col("model") == "trained").then("class_id").otherwise("two_step")
    )
    told = verdict(results(better, bench.classes(), bench.TOPK)["differences"])
    assert "points (+" in told and "not told" not in told
    assert verdict(small.clear()) == ""
