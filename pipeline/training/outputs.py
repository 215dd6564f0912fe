"""What the train stage needs around the trainer: other processes, the table of curves, the line of counts."""

import csv
import io
import os
import subprocess
import sys
from typing import Any

import polars as pl

from pipeline.core.params import UserError
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
"""TRL's names of what it logs (and two of our own), and what the table of curves calls it."""
LAUNCHED = "DIVEK_LAUNCHED"  # set in the processes that accelerate starts
ANSWER_REWARDS = ("letter_reward", "name_reward", "string_reward")


def curves(history: list[dict[str, Any]], checks: dict[int, float]) -> str:
    """What TRL logged, one CSV line per optimiser step, with the checks on validation images."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CURVES.values())
    for entry in history:
        if "learning_rate" in entry:
            found = entry | {
                "rewards/answer": next(
                    (entry[key] for name in ANSWER_REWARDS if (key := f"rewards/{name}/mean") in entry), None
                ),
                "validation": checks.get(entry["step"]),
            }
            writer.writerow([_rounded(found.get(name)) for name in CURVES])
    return out.getvalue()


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def require_enough(rows: pl.DataFrame, wanted: TrainParams) -> None:
    """Raises UserError where the questions do not fill a step."""
    if rows.height < wanted.prompts_per_step:
        raise UserError(
            f"data/hard.parquet: {rows.height} questions, wanted at least train.prompts_per_step = "
            f"{wanted.prompts_per_step}; lower it with `dvc exp run -S train.prompts_per_step={rows.height}`"
        )


def launched(wanted: TrainParams, arguments: list[str]) -> None:
    """Runs this stage in several processes, with accelerate. Raises UserError where it fails."""
    settings = ["--config_file", wanted.launch_config] if wanted.launch_config else []
    command = [sys.executable, "-m", "accelerate.commands.launch", *settings, "-m", "pipeline.stages.train", *arguments]
    code = subprocess.run(command, env=os.environ | {LAUNCHED: "1"}).returncode
    if code:
        raise UserError(f"train: {' '.join(command[1:])} ended with code {code}; its own message is above")


def train_summary(wanted: TrainParams, history: list[dict[str, Any]], checks: dict[int, float]) -> str:
    """The run in one line."""
    if wanted.method == "none":
        return f"not trained: the policy is {wanted.model}"
    steps = f"{wanted.steps} steps of {wanted.prompts_per_step} prompts"
    said = f" × {wanted.generations} completions" if wanted.method != "sft" else ""
    best = max(checks, key=lambda step: (checks[step], step), default=None)
    kept = f"; kept the weights of step {best}, {checks[best]:.1%} of the validation images right" if best else ""
    return f"{wanted.method}: {steps}{said}{kept}"
