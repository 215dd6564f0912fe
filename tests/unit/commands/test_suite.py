"""The table that compares the methods: means over the seeds, and dashes where there is no run."""

import json
import os
import signal
import sys

import dvc.api
import pytest
from dvc.exceptions import NotDvcRepoError

from pipeline.commands import suite as suite_module
from pipeline.commands.suite import METHODS, Method, _dvc, _states, experiment, nested, table
from pipeline.core.params import UserError

TWO = (Method("One", "one", ()), Method("Other", "other", ("train.method=sft",)))


def run(value):
    share = {"base": value, "novel": value / 2, "hm": value / 1.5}
    return {model: {way: share for way in ("one_step", "two_step")} for model in ("base", "trained")}


def test_the_table_has_the_mean_of_the_seeds_and_its_interval():
    runs = {("one", 0): run(0.5), ("one", 1): run(0.7), ("one", 2): run(0.6)}
    lines = table(runs, TWO, 3)
    assert lines[2] == "| no training | one-step | 60.0 (35.2–84.8) | 30.0 (17.6–42.4) | 40.0 (23.4–56.6) | 3 |"
    assert lines[4].startswith("| One | one-step | 60.0") and lines[6] == "| Other | one-step | – | – | – | 0 |"
    assert len(lines) == 2 + 3 * 2


def test_metrics_are_read_from_the_flat_columns_of_dvc():
    row = {"Experiment": "x", "reports/metrics.json:base.two_step.hm": 0.5, "base.pass@1.base": 0.25, "topk": 5}
    metrics = nested(row)
    assert metrics["base"]["two_step"]["hm"] == 0.5 and metrics["base"]["pass@1"]["base"] == 0.25


def test_experiments_have_names_of_their_own():
    names = {experiment("fieldguide", method, seed) for method in METHODS for seed in range(3)}
    assert len(names) == 3 * len(METHODS) and "suite-fieldguide-divek-0" in names


def test_a_run_that_ends_while_dvc_reads_it_is_read_again(monkeypatch):
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


@pytest.mark.slow
def test_a_process_left_behind_holds_nobody_up(monkeypatch, tmp_path):
    """The command returns while a grandchild with its output open is still alive."""
    note = tmp_path / "pid"
    sleeper = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    child = f"import pathlib, subprocess, sys; print('output'); pid = {sleeper}.pid; "
    child += f"pathlib.Path({str(note)!r}).write_text(str(pid))"
    monkeypatch.setattr("pipeline.commands.suite.DVC", (sys.executable, "-c", child))
    assert _dvc().strip() == "output"
    pid = int(note.read_text(encoding="utf-8"))
    os.kill(pid, signal.SIGKILL)  # ProcessLookupError if the command had waited for it


@pytest.mark.slow
def test_the_last_line_of_a_failure_is_the_message(monkeypatch):
    child = "import sys; print('first', file=sys.stderr); print('last', file=sys.stderr); sys.exit(1)"
    monkeypatch.setattr("pipeline.commands.suite.DVC", (sys.executable, "-c", child))
    with pytest.raises(UserError, match=r"`dvc queue start` failed: last; fix this"):
        _dvc("queue", "start")


def test_finished_runs_are_not_repeated_and_failed_ones_are(monkeypatch, tmp_path, capsys):
    """Of two methods one has run and one has failed: the queue runs it again, and the table has both."""
    first, second = (experiment("cub", method, 0) for method in METHODS[:2])
    metrics = {
        f"reports/metrics.json:{model}.{way}.{average}": 0.5
        for model in ("base", "trained")
        for way in ("one_step", "two_step")
        for average in ("base", "novel", "hm")
    }
    states, commands = {first: "Success", second: "Failed"}, []

    def run_dvc(*words):
        commands.append(words)
        if words == ("queue", "start"):
            states[second] = "Success"
        return ""

    def exp_show():
        return [metrics | {"Experiment": name, "State": state} for name, state in states.items()]

    details = json.dumps({"base": {"two_step": {"n_base": 8, "n_novel": 9}}})
    monkeypatch.setattr(suite_module, "_dvc", run_dvc)
    monkeypatch.setattr(dvc.api, "exp_show", exp_show)
    monkeypatch.setattr(suite_module, "read_at", lambda revision, path: details)
    names = ",".join(method.name for method in METHODS[:2])
    suite_module.suite("cub", seeds=1, methods=names, out=tmp_path / "suite.md")
    assert [words[:2] for words in commands] == [("queue", "remove"), ("exp", "run"), ("queue", "start")]
    assert second in commands[1] and "options.strategy=text_embedding" in commands[1]
    page = (tmp_path / "suite.md").read_text(encoding="utf-8")
    assert "in percent, 8 base and 9 novel test images, with its" in page
    assert page.count("| 50.0 | 50.0 | 50.0 | 1 |") == 2 * 3
    assert f"{second}: success (2 of 2)" in capsys.readouterr().out


def test_an_unknown_method_is_refused():
    with pytest.raises(UserError, match="--methods ppo: there is no such method; choose from divek, embedding"):
        suite_module.suite("cub", methods="ppo")
