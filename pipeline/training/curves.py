"""The training curves as CSV, and the run in one line."""

import csv
import io
from typing import Any

from pipeline.training.params import TrainParams

CURVES = {
    "step": "step",
    "rewards/answer": "answer_reward",
    "rewards/format_reward/mean": "format_reward",
    "frac_reward_zero_std": "share_of_groups_without_variance",
    "entropy": "entropy",
    "kl": "kl",
    "completions/mean_length": "completion_length",
    "loss": "loss",
    "grad_norm": "gradient_norm",
    "learning_rate": "learning_rate",
    "validation": "validation_two_step",
}
"""TRL's names of the values that it logs (and two names of our own), with the columns of the table of curves."""

ANSWER_REWARDS = ("letter_reward", "name_reward", "truth_in_answer_reward", "string_reward")


def curves(history: list[dict[str, Any]], checks: dict[int, float]) -> str:
    """The training curves as CSV, one line for each optimiser step.

    Args:
        history: TRL's log.
        checks: scores on validation images by step; step 0, before training, has no other values.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CURVES.values())
    if 0 in checks:
        start = {"step": 0, "validation": checks[0]}
        writer.writerow([_rounded(start.get(name)) for name in CURVES])
    for entry in history:
        if "learning_rate" in entry:
            rewards = [entry[name] for reward in ANSWER_REWARDS if (name := f"rewards/{reward}/mean") in entry]
            values = entry | {
                "rewards/answer": next(iter(rewards), None),
                "validation": checks.get(entry["step"]),
            }
            writer.writerow([_rounded(values.get(name)) for name in CURVES])
    return out.getvalue()


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def run_line(params: TrainParams, checks: dict[int, float]) -> str:
    """The run in one line."""
    if params.method == "none":
        return f"no training: the policy is {params.model}"
    size = f"{params.steps} steps of {params.prompts_per_step} prompts"
    if params.method != "sft":
        size += f" × {params.generations} completions"
    best = best_step(checks)
    if best is None:
        return f"{params.method}: {size}"
    name = f"step {best}" if best else "those before training"
    return f"{params.method}: {size}; best weights: {name}, {checks[best]:.1%} of the validation images right"


def best_step(checks: dict[int, float]) -> int | None:
    """The step with the best score, 0 for the start; None without checks. Of equals the later one, it has seen more."""
    return max(checks, key=lambda step: (checks[step], step), default=None)
