"""Follows a run: logs it, scores it on validation images, stores the best weights and complete checkpoints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback

from pipeline.core import timings
from pipeline.core.progress import Advance
from pipeline.training.checkpoints import RunFolder
from pipeline.training.curves import best_step
from pipeline.training.rollouts import LETTER_STEPS, Rollouts

LETTER_ALARM = 0.6  # share of one letter among the letters of all answers above which a warning is logged

Check = Callable[[Any], float]
"""Share of validation images that a model has right in two steps."""

Watch = Callable[[list[dict[str, Any]], dict[int, float]], None]
"""Sees TRL's log and the checks so far, after every step."""


class Save(Protocol):
    """Writes a model into a folder."""

    def __call__(self, model: Any, *, folder: Path) -> None: ...


class DivergenceError(Exception):
    """Training has diverged: further steps would not recover."""


class TrainingMonitor(TrainerCallback):  # type: ignore[misc]
    """Checks, checkpoints and the log of one run.

    Args:
        folder: the run's folder.
        every: steps between two checkpoints, each with a check.
        check: scores the model; None where there are no validation images.
        save: writes the model.
        rollouts: the completions so far; None for supervised training.
        max_kl: nats per token from the base model at which the run has diverged.
        is_sharded: no process has the whole weights, so there are neither checks nor best weights.
        advance: called after every step.
        watch: called with the log after every step.
        log: prints a line.
    """

    def __init__(
        self,
        folder: RunFolder,
        every: int,
        check: Check | None,
        save: Save,
        rollouts: Rollouts | None,
        max_kl: float,
        is_sharded: bool = False,
        advance: Advance = lambda: None,
        watch: Watch = lambda history, checks: None,
        log: Callable[[str], None] = print,
    ):
        self.folder, self.every, self.check, self.save = folder, every, check, save
        self.rollouts, self.max_kl, self.is_sharded = rollouts, max_kl, is_sharded
        self.advance, self.watch, self.log = advance, watch, log
        self.checks: dict[int, float] = {}

    def restore(self, progress: dict[str, Any]) -> None:
        """Continues from what a checkpoint stored."""
        self.checks = {int(step): score for step, score in progress["checks"].items()}
        if self.rollouts is not None:
            self.rollouts.rows = progress["rollouts"]

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """The start is checked too: weights that do worse never replace it."""
        if self.check is not None and state.global_step == 0 and state.is_world_process_zero and not self.is_sharded:
            self.checks[0] = self.check(_unwrapped(model))
            self.log(f"before training: {self.checks[0]:.1%} of the validation images right in two steps")

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        timings.record(steps=1)
        self.advance()
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            if state.is_world_process_zero and not self.is_sharded:
                self._check(state.global_step, _unwrapped(model))
            control.should_save = True

    def _check(self, step: int, model: Any) -> None:
        def save(path: Path) -> None:
            self.save(model, folder=path)

        if self.check is None:
            self.folder.save_best(save)  # without checks the last weights are the best
            return
        score = self.checks[step] = self.check(model)
        is_best = best_step({check: one for check, one in self.checks.items() if check <= step}) == step
        if is_best:
            self.folder.save_best(save)
        note = ", the best so far" if is_best else ""
        self.log(f"step {step}: {score:.1%} of the validation images right in two steps{note}")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            rows = self.rollouts.rows if self.rollouts is not None else []
            checkpoint = self.folder.path / f"checkpoint-{state.global_step}"
            self.folder.complete(checkpoint, {"checks": self.checks, "rollouts": rows})

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if not logs or "learning_rate" not in logs:
            return
        kl = logs.get("kl")
        if kl is not None and not kl <= self.max_kl:
            raise DivergenceError(
                f"the policy is {kl:.3g} nats per token from the base model after step {state.global_step}"
            )
        if state.is_world_process_zero:
            if state.global_step in self.checks:
                logs["validation"] = self.checks[state.global_step]  # for the trackers, which are called after this
            self.watch(state.log_history, self.checks)
            self.log(f"step {state.global_step}/{state.max_steps}: {', '.join(self._values(logs, state.global_step))}")

    def _values(self, logs: Any, step: int) -> list[str]:
        if self.rollouts is None:
            return [f"loss {logs['loss']:.3g}"]
        formats = {
            f"rewards/{self.rollouts.answer_reward}/mean": "right {:.2f}",
            f"rewards/{self.rollouts.format_reward}/mean": "format {:.2f}",
            "frac_reward_zero_std": "groups without variance {:.2f}",
            "completions/mean_length": "length {:.0f}",
            "entropy": "entropy {:.3f}",
            "kl": "KL {:.4f}",
        }
        # With several updates per batch, only the first logs the metrics of its completions.
        values = [text.format(logs[name]) for name, text in formats.items() if logs.get(name) is not None]
        letters = self.rollouts.letters(step)
        total = letters.total()
        if total:
            values.append(" ".join(f"{name} {count / total:.0%}" for name, count in sorted(letters.items())))
            most, count = letters.most_common(1)[0]
            if count / total > LETTER_ALARM and step >= LETTER_STEPS:
                values.append(f"WARNING: the policy prefers the letter {most}; look at data/rollouts.parquet")
        return values


def _unwrapped(model: Any) -> Any:
    """The model without the wrapper that accelerate adds for several processes."""
    if model is None:
        return None
    from accelerate.utils import extract_model_from_parallel

    return extract_model_from_parallel(model)
