"""The table that compares the methods: what was run, over the seeds, and dashes where nothing was."""

from pipeline.commands.suite import METHODS, Method, _metrics, experiment, table

TWO = (Method("One", "one", ()), Method("Other", "other", ("train.method=sft",)))


def run(value):
    share = {"base": value, "novel": value / 2, "hm": value / 1.5}
    return {model: {arm: share for arm in ("one_step", "two_step")} for model in ("base", "trained")}


def test_the_table_has_mean_least_and_most_of_the_seeds():
    found = {("one", 0): run(0.5), ("one", 1): run(0.7), ("one", 2): run(0.6)}
    lines = table(found, TWO, 3)
    assert lines[2] == "| no training | one-step | 60.0 (50.0–70.0) | 30.0 (25.0–35.0) | 40.0 (33.3–46.7) | 3 |"
    assert lines[4].startswith("| One | one-step | 60.0") and lines[6] == "| Other | one-step | – | – | – | 0 |"
    assert len(lines) == 2 + 3 * 2


def test_metrics_are_told_from_the_flat_columns_of_dvc():
    row = {"Experiment": "x", "reports/metrics.json:base.two_step.hm": 0.5, "base.pass@1.base": 0.25, "topk": 5}
    found = _metrics(row)
    assert found["base"]["two_step"]["hm"] == 0.5 and found["base"]["pass@1"]["base"] == 0.25


def test_experiments_have_names_of_their_own():
    names = {experiment("fieldguide", method, seed) for method in METHODS for seed in range(3)}
    assert len(names) == 3 * len(METHODS) and "suite-fieldguide-divek-0" in names
