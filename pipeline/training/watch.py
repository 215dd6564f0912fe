"""Watches a run: says how it goes, checks it on validation images, keeps the best weights and whole checkpoints."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from pipeline.core import timings
from pipeline.core.progress import Advance
from pipeline.method.answers import letter
from pipeline.training.checkpoints import Work
from pipeline.training.grpo import BrokenError

LETTER_ALARM = 0.6  # share of all letters chosen that one letter may have before it is worth a warning …
LETTER_STEPS = 10  # … over so many steps
ENTROPY_ALARM = 1e-3  # nats per token


class Rollouts:
    """Every completion of a run, as rows of the table of rollouts."""

    def __init__(self, rewards: tuple[str, str]):
        self.answer_reward, self.format_reward = rewards
        self.rows: list[dict[str, Any]] = []

    def __call__(self, step: int, completions: list[dict[str, Any]]) -> None:
        numbers = Counter[str]()
        for one in completions:
            self.rows.append(
                {
                    "step": step,
                    "image_id": one["image_id"],
                    "rollout": numbers[one["image_id"]],
                    "text": one["text"],
                    "letter": letter(one["text"], one["options"]) if one["options"] else None,
                    "answer_reward": one["rewards"][self.answer_reward],
                    "format_reward": one["rewards"][self.format_reward],
                    "advantage": one["advantage"],
                }
            )
            numbers[one["image_id"]] += 1

    def letters(self, step: int) -> Counter[str]:
        """Letters chosen in the last steps up to `step`."""
        recent = (row["letter"] for row in reversed(self.rows) if step - LETTER_STEPS < row["step"] <= step)
        return Counter(chosen for chosen in recent if chosen)


class Watch(TrainerCallback):  # type: ignore[misc]
    """
    Args:
        work: the run's folder.
        every: steps between two checkpoints, each with a check.
        check: share of validation images that are right in two steps now; None where there are none.
        save: writes the model into a folder.
        rollouts: the completions so far; None for supervised training.
        max_kl: nats per token from the base model at which the run has come apart.
        say: prints a line.
    """

    def __init__(
        self,
        work: Work,
        every: int,
        check: Callable[[], float] | None,
        save: Callable[[Path], None],
        rollouts: Rollouts | None,
        max_kl: float,
        say: Callable[[str], None] = print,
    ):
        self.work, self.every, self.check, self.save = work, every, check, save
        self.rollouts, self.max_kl, self.say = rollouts, max_kl, say
        self.checks: dict[int, float] = {}
        self.advance: Advance = lambda: None  # of every step that is done
        self.whole = True  # whether this process has the whole weights: else there are neither checks nor best weights

    def restore(self, kept: dict[str, Any]) -> None:
        """Goes on from what a checkpoint kept."""
        self.checks = {int(step): score for step, score in kept["checks"].items()}
        if self.rollouts is not None:
            self.rollouts.rows = kept["rollouts"]

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        timings.record(steps=1)
        self.advance()
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            if state.is_world_process_zero and self.whole:
                self._check(state.global_step)
            control.should_save = True

    def _check(self, step: int) -> None:
        if self.check is None:
            self.work.keep_best(self.save)  # nothing to choose by: the last weights
            return
        score = self.check()
        best = max((score for at, score in self.checks.items() if at < step), default=-1.0)
        self.checks[step] = score
        kept = score >= best  # the later one of two equals has seen more
        if kept:
            self.work.keep_best(self.save)
        self.say(f"step {step}: {score:.1%} of the validation images right in two steps{', the best so far' * kept}")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            rows = self.rollouts.rows if self.rollouts is not None else []
            checkpoint = self.work.folder / f"checkpoint-{state.global_step}"
            self.work.finish(checkpoint, {"checks": self.checks, "rollouts": rows})

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if not logs or "learning_rate" not in logs:
            return
        kl = logs.get("kl")
        if kl is not None and not kl <= self.max_kl:
            raise BrokenError(
                f"the policy is {kl:.3g} nats per token from the base model after step {state.global_step}"
            )
        if state.is_world_process_zero:
            self.say(f"step {state.global_step}/{state.max_steps}: {', '.join(self._said(logs, state.global_step))}")

    def _said(self, logs: Any, step: int) -> list[str]:
        if self.rollouts is None:
            return [f"loss {logs['loss']:.3g}"]
        names = {
            f"rewards/{self.rollouts.answer_reward}/mean": "right",
            f"rewards/{self.rollouts.format_reward}/mean": "form",
        }
        said = [f"{title} {logs[name]:.2f}" for name, title in names.items()]
        said += [
            f"groups alike {logs['frac_reward_zero_std']:.2f}",
            f"length {logs['completions/mean_length']:.0f}",
            f"entropy {logs['entropy']:.3f}",
        ]
        said += [f"KL {logs['kl']:.4f}"] if logs.get("kl") is not None else []
        letters = self.rollouts.letters(step)
        total = letters.total()
        if total:
            said.append(" ".join(f"{name} {count / total:.0%}" for name, count in sorted(letters.items())))
            most, count = letters.most_common(1)[0]
            if count / total > LETTER_ALARM and step >= LETTER_STEPS:
                said.append(f"WARNING: {most} takes over; look at data/rollouts.parquet")
        return said
