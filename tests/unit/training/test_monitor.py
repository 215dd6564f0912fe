"""The monitor of a run: the best weights, the log, the alarms."""

import pytest
import torch
from support.training import completion

from pipeline.training.checkpoints import RunFolder
from pipeline.training.monitor import DivergenceError, TrainingMonitor
from pipeline.training.rollouts import Rollouts
from pipeline.training.trl_adapter import require_finite

pytestmark = pytest.mark.slow

REWARDS = ("letter_reward", "format_reward")
LOGS = {
    "learning_rate": 1e-5, "loss": 0.1, "frac_reward_zero_std": 0.25, "completions/mean_length": 30.0, "entropy": 0.05,
    "kl": 0.01, "rewards/letter_reward/mean": 0.5, "rewards/format_reward/mean": 1.0,
}  # fmt: skip


class State:
    """The fields of the trainer's state that the monitor reads."""

    def __init__(self, step, steps=20):
        self.global_step, self.max_steps, self.is_world_process_zero = step, steps, True
        self.log_history = [{"step": step}]


class Control:
    should_save = False


@pytest.fixture
def monitor_of(tmp_path):
    """A monitor whose checks return these scores, the lines that it logs, and a list with an entry for each save."""

    def monitor(scores, rollouts=None):
        lines, saves = [], []
        check = (lambda model: scores.pop(0)) if scores is not None else None

        def save(model, folder):
            saves.append((folder / "w").write_text("w", encoding="utf-8"))

        return TrainingMonitor(RunFolder(tmp_path), 5, check, save, rollouts, 5.0, log=lines.append), lines, saves

    return monitor


def rollouts_of(*texts, steps=12):
    """A record of `steps` steps with these completions each."""
    rollouts = Rollouts(REWARDS)
    for step in range(1, steps + 1):
        rollouts(step, [completion(image, f"<answer>{letter}</answer>") for image, letter in texts])
    return rollouts


def test_the_best_weights_are_saved_and_the_later_ones_of_two_equals(monitor_of):
    monitor, lines, saves = monitor_of([0.5, 0.4, 0.5, 0.6])
    steps_of_saves = []
    for step in range(1, 21):
        control = Control()
        before = len(saves)
        monitor.on_step_end(None, State(step), control)
        assert control.should_save == (step % 5 == 0)
        steps_of_saves += [step] * (len(saves) - before)
    assert steps_of_saves == [5, 15, 20] and monitor.checks == {5: 0.5, 10: 0.4, 15: 0.5, 20: 0.6}
    assert lines[1] == "step 10: 40.0% of the validation images right in two steps"
    assert lines[2].endswith("the best so far")


def test_weights_that_do_worse_than_the_start_are_never_saved(monitor_of):
    monitor, lines, saves = monitor_of([0.5, 0.4, 0.5])
    monitor.on_train_begin(None, State(0), Control())
    assert lines == ["before training: 50.0% of the validation images right in two steps"] and saves == []
    monitor.on_step_end(None, State(5), Control())
    assert saves == [] and monitor.checks == {0: 0.5, 5: 0.4}
    monitor.on_step_end(None, State(10), Control())
    assert len(saves) == 1, "as good after more steps"


def test_a_run_that_continues_does_not_check_its_start_again(monitor_of):
    monitor, lines, _ = monitor_of([])
    monitor.restore({"checks": {"0": 0.5, "5": 0.6}, "rollouts": []})
    monitor.on_train_begin(None, State(5), Control())
    assert monitor.checks == {0: 0.5, 5: 0.6} and lines == []


def test_without_validation_images_the_last_weights_are_saved(monitor_of):
    monitor, lines, saves = monitor_of(None)
    for step in (5, 10, 20):
        monitor.on_step_end(None, State(step), Control())
    assert len(saves) == 3 and lines == []


def test_the_log_of_a_step(monitor_of):
    monitor, lines, _ = monitor_of([], rollouts_of(("a", "A"), ("b", "B")))
    monitor.on_log(None, State(12), None, LOGS)
    assert lines[0].startswith(
        "step 12/20: right 0.50, format 1.00, groups without variance 0.25, length 30, entropy 0.050, KL 0.0100"
    )
    assert "WARNING" not in lines[0]


def test_the_log_of_a_step_is_seen_with_its_checks_and_reaches_the_trackers_after_it(monitor_of):
    monitor, _, _ = monitor_of([0.5], rollouts_of(("a", "A")))
    seen = []
    monitor.watch = lambda history, checks: seen.append((history, dict(checks)))
    monitor.on_step_end(None, State(5), Control())
    logs = dict(LOGS)
    monitor.on_log(None, State(5), None, logs)
    assert seen == [([{"step": 5}], {5: 0.5})] and logs["validation"] == 0.5


def test_an_update_without_new_completions_logs_the_other_values(monitor_of):
    monitor, lines, _ = monitor_of([], rollouts_of(("a", "A"), ("b", "B")))
    monitor.on_log(None, State(12), None, {name: LOGS[name] for name in ("learning_rate", "loss", "entropy", "kl")})
    assert lines == ["step 12/20: entropy 0.050, KL 0.0100, A 50% B 50%"]


def test_a_letter_that_dominates_is_a_warning(monitor_of):
    monitor, lines, _ = monitor_of([], rollouts_of(("a", "A"), ("a", "A"), ("a", "A"), ("b", "B")))
    monitor.on_log(None, State(12), None, LOGS)
    assert "A 75% B 25%" in lines[0] and "WARNING: the policy prefers the letter A" in lines[0]


@pytest.mark.parametrize("kl", [5.1, float("nan"), float("inf")])
def test_a_policy_far_from_the_base_model_stops_training(monitor_of, kl):
    monitor, _, _ = monitor_of([], Rollouts(REWARDS))
    with pytest.raises(DivergenceError, match="nats per token from the base model after step 3"):
        monitor.on_log(None, State(3), None, LOGS | {"kl": kl})


def test_a_loss_that_is_not_finite_stops_training_before_the_step():
    require_finite(torch.tensor(1.0), 1)
    for loss in (float("nan"), float("inf")):
        with pytest.raises(DivergenceError, match="the loss of step 7 is"):
            require_finite(torch.tensor(loss), 7)
