"""The table that compares the methods: what was run, over the seeds, and dashes where nothing was."""

import sys
import time

from pipeline.commands.suite import METHODS, Method, _dvc, _states, experiment, nested, table

TWO = (Method("One", "one", ()), Method("Other", "other", ("train.method=sft",)))


def run(value):
    share = {"base": value, "novel": value / 2, "hm": value / 1.5}
    return {model: {arm: share for arm in ("one_step", "two_step")} for model in ("base", "trained")}


def test_the_table_has_the_mean_of_the_seeds_and_its_interval():
    found = {("one", 0): run(0.5), ("one", 1): run(0.7), ("one", 2): run(0.6)}
    lines = table(found, TWO, 3)
    assert lines[2] == "| no training | one-step | 60.0 (35.2–84.8) | 30.0 (17.6–42.4) | 40.0 (23.4–56.6) | 3 |"
    assert lines[4].startswith("| One | one-step | 60.0") and lines[6] == "| Other | one-step | – | – | – | 0 |"
    assert len(lines) == 2 + 3 * 2


def test_metrics_are_told_from_the_flat_columns_of_dvc():
    row = {"Experiment": "x", "reports/metrics.json:base.two_step.hm": 0.5, "base.pass@1.base": 0.25, "topk": 5}
    found = nested(row)
    assert found["base"]["two_step"]["hm"] == 0.5 and found["base"]["pass@1"]["base"] == 0.25


def test_experiments_have_names_of_their_own():
    names = {experiment("fieldguide", method, seed) for method in METHODS for seed in range(3)}
    assert len(names) == 3 * len(METHODS) and "suite-fieldguide-divek-0" in names


def test_a_run_that_ends_while_dvc_looks_at_it_is_looked_at_again(monkeypatch):
    import dvc.api
    from dvc.exceptions import NotDvcRepoError

    answers = [NotDvcRepoError("its folder is gone"), [{"Experiment": "x", "State": "Running"}, {"Experiment": "y"}]]

    def exp_show():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(dvc.api, "exp_show", exp_show)
    monkeypatch.setattr("pipeline.commands.suite.time.sleep", lambda seconds: None)
    states = _states()
    assert {name: state for name, (state, _) in states.items()} == {"x": "Running", "y": "Success"}


def test_a_process_left_behind_holds_nobody_up(monkeypatch):
    sleeper = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)'])"
    child = f"import subprocess, sys; print('said'); {sleeper}"
    start = time.perf_counter()
    monkeypatch.setattr("pipeline.commands.suite.DVC", (sys.executable, "-c", child))
    assert _dvc().strip() == "said"
    assert time.perf_counter() - start < 10
