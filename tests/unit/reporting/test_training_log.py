"""The log of training: curves, damaged lines, and the rounded copy."""

import csv

import pytest
from support.report_runs import HEADER, LOG

from pipeline.core.params import UserError
from pipeline.reporting.training_log import read_log, rounded_log, validation_points


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "training.csv"
    path.write_text(LOG, encoding="utf-8")
    return path


def test_empty_cells_are_left_out(log):
    log.write_text(HEADER + "1,0.4,1,,nan,,30,1,1\n2,,1,,nan,,31,1,1\n", encoding="utf-8")
    assert read_log(log) == {"answer_reward": [(1, 0.4)], "completion_length": [(1, 30), (2, 31)]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no column step, answer_reward"),
        ("step,answer_reward\n1,2\n", "has no column share_of_groups_without_variance"),
        (LOG + "3,oops,1,0,0,0,0,0,0\n", "line 4: step '3' and answer_reward 'oops' must be numbers"),
        (LOG + ",0.5,1,0,0,0,0,0,0\n", "line 4: step ''"),
    ],
)
def test_a_damaged_log_is_named(log, content, message):
    log.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="`dvc repro train` writes ") as error:
        read_log(log)
    assert str(error.value).startswith(str(log)) and message in str(error.value)


def test_last_digits_of_another_processor_make_no_difference(log):
    log.write_text(
        "step,loss,entropy,answer_reward\n1234,-1.11759e-08,0.0573865,\n1235,0.5,12.3456,1\n", encoding="utf-8"
    )
    text = rounded_log(log)
    rows = [{name: float(value or "nan") for name, value in row.items()} for row in csv.DictReader(text.splitlines())]
    assert [row["step"] for row in rows] == [1234, 1235]
    assert [row["loss"] for row in rows] == [0, 0.5] and [row["entropy"] for row in rows] == [0.0574, 12.3]
    log.write_text("step,loss,entropy,answer_reward\n1234,9.31e-10,0.0573866,\n1235,0.5,12.3455,1\n", encoding="utf-8")
    assert rounded_log(log) == text


def test_the_check_before_training_is_among_the_checks_and_not_in_the_plots_of_the_log(log):
    log.write_text(HEADER + "0,,,,,,,,,0.25\n" + LOG.removeprefix(HEADER), encoding="utf-8")
    assert validation_points(log) == "step,validation_two_step\n0,0.25\n2,0.5\n"
    assert read_log(log)["validation_two_step"] == [(0, 0.25), (2, 0.5)]
    assert [line.split(",")[0] for line in rounded_log(log).splitlines()] == ["step", "1", "2"]


def test_validation_points_are_the_steps_that_have_one(log):
    assert validation_points(log) == "step,validation_two_step\n2,0.5\n"
    log.write_text(HEADER + "1,0.4,1,0.25,0.9,,30,1,1e-5,\n", encoding="utf-8")
    assert validation_points(log) == "step,validation_two_step\n"
