"""What fewer draws would have given, against plain loops and the options of each image."""

import numpy as np
import polars as pl
import pytest
from support.oracles import option_rows, top_options
from support.scores import BENCH, ROWS, frame, random_predictions, random_scores

from pipeline.evaluation import curves, metrics
from pipeline.evaluation.cost import cost
from pipeline.evaluation.results import details, report_tables
from pipeline.evaluation.scoring import score
from pipeline.evaluation.ways import prepare
from pipeline.method.early_stop import LOOK_EVERY, draws_until_decided
from pipeline.method.votes import leaders


def test_a_plain_loop_computes_the_same_means_and_curves():
    plain, result = BENCH.plain_scores(list(random_predictions().iter_rows(named=True))), details(random_scores())
    for (model, subset, way), mean in plain["means"].items():
        assert result[model][way][subset] == pytest.approx(mean, abs=6e-5), (model, subset, way)
    table = curves.by_draws(random_scores().with_draws, BENCH.TOPK)
    assert table["draws"].to_list() == list(range(1, BENCH.K + 1))
    for (model, subset, measure, count), mean in plain["curves"].items():
        value = table[f"{measure}_{model}_{subset}"][count - 1]
        # The vote and the oracle are means over several orders of the draws, those of the loop are of one order.
        assert value == pytest.approx(mean, abs=6e-5 if measure == "pass" else 0.08)


def test_stopping_never_changes_nothing():
    table = curves.early_stops(random_scores().with_draws, BENCH.TOPK)
    never = table.row(by_predicate=(pl.col("rule") == "never") & (pl.col("model") == "base"), named=True)
    result = details(random_scores())["base"]
    assert never["draws_saved"] == 0
    for subset in metrics.SUBSETS:
        assert never[f"vote_{subset}"] == pytest.approx(result["vote"][subset], abs=6e-5)
        assert never[f"two_step_{subset}"] == pytest.approx(result["two_step"][subset], abs=6e-5)
    assert never["same_vote"] == 1 and never["n_base"] == never["n_novel"] == 200
    saved = dict(table.filter(model="base").select("rule", "draws_saved").rows())
    assert saved["order"] <= saved["vote 0.99"] <= saved["vote 0.95"] <= saved["vote 0.8"]
    assert saved["vote 0.8"] > 0.1
    order = table.row(by_predicate=(pl.col("rule") == "order") & (pl.col("model") == "base"), named=True)
    assert order["vote_base"] == never["vote_base"], "a settled order does not change"
    same = dict(table.filter(model="base").select("rule", "same_vote").rows())
    assert 0.5 < same["vote 0.8"] <= same["vote 0.99"] <= same["order"] == 1


def test_stopping_is_checked_as_often_as_predict_checks():
    draws = np.array([[0] * 20, [0, 1] * 10], np.int64)
    assert draws_until_decided(leaders(draws, 2), 0.9).tolist() == [3, 20]
    assert draws_until_decided(leaders(draws, 2), 0.9, LOOK_EVERY).tolist() == [4, 20]
    rows = pl.concat([frame(ROWS[0] | {"draws": [0] * 20}), frame(ROWS[2] | {"draws": [0] * 20})])
    table = {row["rule"]: row for row in curves.early_stops(rows, 5).iter_rows(named=True)}
    assert table["vote 0.9"]["draws_saved"] == 0.8, "4 of 20 draws"


def test_draws_that_stopped_early_have_no_other_stops():
    rows = frame(ROWS[0], ROWS[1] | {"draws": [0] * 3})
    table = curves.early_stops(rows, 5)
    assert table.height == 0 and "draws_saved" in table.columns
    assert curves.early_stops(rows, 5, 0.5).height == 0


def test_no_order_is_settled_where_a_share_of_the_votes_counts():
    test = random_scores().test
    assert "order" in set(curves.early_stops(test, 5)["rule"])
    assert "order" not in set(curves.early_stops(test, 5, 0.9)["rule"])


@pytest.mark.parametrize("mass", [0.5, 0.8, 1.0])
def test_the_oracle_of_all_draws_is_that_of_the_options(mass):
    def own_options(row):
        order = top_options(row["draws"], None, BENCH.TOPK, mass)
        return option_rows(order, row["draws"], BENCH.NAMES)

    test = random_predictions().filter(split="test", model="base")
    options = [own_options(row) for row in test.iter_rows(named=True)]
    test = prepare(test.with_columns(pl.Series("options", options, test.schema["options"])))
    last = curves.by_draws(test, BENCH.TOPK, mass).row(-1, named=True)
    expected = metrics.scores(test).filter(subset="base")["oracle"].mean()
    assert last["oracle_base_base"] == pytest.approx(expected, abs=0.02), "except ties, which the order breaks"


def test_several_data_sets_count_alike_in_curves_as_in_details():
    test = random_predictions().filter(split="test")
    small = test.filter(pl.col("class_id") % 7 == 0).with_columns(
        dataset=pl.lit("other"), image_id="o" + pl.col("image_id"), class_id=pl.lit(3, pl.Int64)
    )
    scored = score(pl.concat([test, small]))
    expected = details(scored)["trained"]
    last = curves.by_draws(scored.with_draws, BENCH.TOPK).row(-1, named=True)
    for average in ("base", "novel", "total"):
        assert last[f"pass_trained_{average}"] == pytest.approx(expected["pass@K"][average], abs=6e-5)
        own = expected["datasets"]["other"]["pass@K"][average]
        assert last[f"pass_trained_{average}_other"] == pytest.approx(own, abs=6e-5)
    costs = dict(cost(scored).filter(model="trained").select("answer", "accuracy").rows())
    assert costs["two_step"] == pytest.approx(expected["two_step"]["total"], abs=6e-5)
    stops = curves.early_stops(scored.with_draws.filter(model="trained"), BENCH.TOPK).row(0, named=True)
    assert stops["vote_novel"] == pytest.approx(expected["vote"]["novel"], abs=6e-5)
    rows = report_tables(scored, BENCH.classes(), BENCH.TOPK)["differences"].filter(subset="total")
    pooled = pl.col("dataset") == "all"
    assert rows.filter(pooled)["p_mcnemar"].null_count() == rows.filter(pooled).height, "it counts images"
    assert rows.filter(~pooled, pl.col("only_first").is_not_null())["p_mcnemar"].null_count() == 0
