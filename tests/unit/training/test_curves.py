"""The log of TRL becomes a table of curves."""

from pipeline.training.curves import CURVES, curves


def test_curves_are_one_line_a_step_with_the_checks():
    log = [
        {"step": 1, "rewards/letter_reward/mean": 0.123456789, "entropy": 0.5, "learning_rate": 1e-5},
        {"step": 2, "rewards/name_reward/mean": 0.25, "kl": 1e-9, "learning_rate": 0.0},
        {"train_runtime": 1.0},
    ]
    lines = [line.split(",") for line in curves(log, {2: 0.75}).splitlines()]
    assert lines[0] == list(CURVES.values())
    assert [line[:2] for line in lines[1:]] == [["1", "0.123457"], ["2", "0.25"]]
    assert [line[-1] for line in lines[1:]] == ["", "0.75"]
