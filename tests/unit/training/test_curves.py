"""The log of TRL becomes a table of curves."""

from support.training import DEFAULTS

from pipeline.training.curves import CURVES, curves, run_line


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


def test_the_check_before_training_is_a_line_of_its_own():
    lines = curves([{"step": 1, "learning_rate": 1e-5}], {0: 0.5}).splitlines()
    assert lines[1] == f"0{',' * (len(CURVES) - 1)}0.5" and lines[2].startswith("1,")


def test_the_run_in_one_line_names_the_weights_that_are_kept():
    assert run_line(DEFAULTS, {0: 0.5, 20: 0.5}).endswith(
        "; best weights: step 20, 50.0% of the validation images right"
    )
    assert "; best weights: those before training, 60.0%" in run_line(DEFAULTS, {0: 0.6, 20: 0.5})
    assert "best" not in run_line(DEFAULTS, {})
