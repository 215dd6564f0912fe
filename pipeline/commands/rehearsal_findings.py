"""The findings of a rehearsal: answers, how many could be read, memory, duration of the whole run, what to change."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from pipeline.commands.cost import estimate_lines
from pipeline.commands.run_estimate import (
    CostParams,
    completions,
    estimates,
    image_shares,
    planned_work,
)

SHOWN = 10  # answers of each step
LONGEST = 300  # characters of an answer
LEAST_READABLE = 0.5  # share of draws with an answer, of the list or not
MOST_TRUNCATED = 0.05
MOST_MEMORY = 0.9  # share of the device

Timings = Mapping[str, Sequence[dict[str, Any]]]


def answers(samples: pl.DataFrame, predictions: pl.DataFrame) -> list[str]:
    """Draws of step 1 and choices of step 2, of as many images as there are, verbatim on one line each."""
    draws = samples.filter(pl.col("status") != "error").unique("image_id", keep="first", maintain_order=True)
    lines = [f"draw, {status}: {_line(text)}" for text, status in draws["text", "status"].head(SHOWN).iter_rows()]
    chosen = _choices(predictions)["choice_text", "status"].head(SHOWN)
    return [*lines, *(f"choice, {status}: {_line(text)}" for text, status in chosen.iter_rows())] or ["none"]


def _line(text: str) -> str:
    one = repr(text)[1:-1]
    return one if len(one) <= LONGEST else f"{one[:LONGEST]}…"


def readability(samples: pl.DataFrame, predictions: pl.DataFrame, rollouts: pl.DataFrame) -> list[str]:
    """How parsing went in each step, and how training rewarded."""
    lines = []
    for title, statuses in (("draws", samples["status"]), ("choices", _choices(predictions)["status"])):
        if len(statuses):
            counts = statuses.value_counts(sort=True).iter_rows()
            lines.append(f"{title}: " + ", ".join(f"{status} {count / len(statuses):.0%}" for status, count in counts))
    if rollouts.height:
        form, right = (sum(rollouts[name]) / rollouts.height for name in ("format_reward", "answer_reward"))
        lines.append(f"completions in training: {form:.0%} in the right form, {right:.0%} right")
    return lines or ["nothing was drawn"]


def memory(timings: Timings) -> list[str]:
    """The peak of each stage, beside what the GPU has where there is one."""
    lines = []
    for stage, runs in timings.items():
        peak, gpu, total = _peaks(runs)
        on_gpu = f", GPU {gpu:,.0f} of {total:,.0f} MiB" if total else ""
        if peak:
            lines.append(f"{stage:10} {peak:>8,.0f} MiB{on_gpu}")
    return lines or ["no stage has recorded any"]


def durations(params: CostParams, index: pl.DataFrame, classes: pl.DataFrame, timings: Timings) -> list[str]:
    """Hours and tokens of the whole run, at the rates of the rehearsal. `index`: all images, without pictures."""
    work = planned_work(
        params,
        index.height,
        params.num_samples,
        params.steps,
        image_shares(index, classes),
        completions(params, params.num_samples, None),
    )
    costs, missing = estimates(work, lambda stage: list(timings.get(stage, ())), 1)
    lines = estimate_lines(costs)
    if missing:
        lines.append(f"not measured, since it failed or all its draws were cached: {', '.join(missing)}")
    return lines


def advice(
    samples: pl.DataFrame,
    predictions: pl.DataFrame,
    rollouts: pl.DataFrame,
    timings: Timings,
    questions: int,
    failure: str,
) -> list[str]:
    """One sentence for each thing to change; that all is well where there is none.

    Args:
        questions: that were left to train on.
        failure: the stage that failed, or "".
    """
    failed = f"the stage {failure} failed: its message is above. `python -m pipeline rehearse` tries again"
    sentences = [
        *([failed] if failure else []),
        *_of_answers(samples["status"], _choices(predictions)["status"]),
        *_of_training(questions, rollouts),
        *_of_memory(timings),
    ]
    return sentences or ["nothing was found: `dvc repro` runs the whole"]


def _of_answers(draws: pl.Series, choices: pl.Series) -> Iterator[str]:
    if share := _share(draws, "error"):
        yield f"{share:.0%} of the draws failed: the column text of .work/rehearsal/data/samples.parquet says why"
    if len(draws) and _share(draws, "ok") + _share(draws, "off_list") < LEAST_READABLE:
        yield (
            "most draws have no answer that can be read: compare them with the setting prompt; for a model that thinks "
            "before it answers, set sample.max_new_tokens higher or chat.template_kwargs to {enable_thinking: false}"
        )
    for statuses, setting in ((draws, "sample.max_new_tokens"), (choices, "predict.choice_max_new_tokens")):
        if (share := _share(statuses, "truncated")) > MOST_TRUNCATED:
            yield f"{share:.0%} of the answers are cut off: set {setting} higher"


def _of_training(questions: int, rollouts: pl.DataFrame) -> Iterator[str]:
    if questions == 0:
        yield (
            "no question is left to train on: the draws name no class, or only the true one. See the answers above; "
            "options.filler adds options, filter.drop: nothing keeps all questions"
        )
    if rollouts.height and not (rollouts["format_reward"] > 0).any():
        yield "no completion in training had the right form: see train.max_completion_length and the setting prompt"


def _of_memory(timings: Timings) -> Iterator[str]:
    for stage, runs in timings.items():
        _, gpu, total = _peaks(runs)
        if total and gpu > MOST_MEMORY * total:
            setting = "train.prompts_per_device" if stage == "train" else "engine.max_tokens"
            yield f"{stage} takes {gpu / total:.0%} of the GPU's memory: set {setting} lower"


def _choices(predictions: pl.DataFrame) -> pl.DataFrame:
    """The images for which there was something to choose between."""
    return predictions.filter(pl.col("choice_text").is_not_null())


def _peaks(runs: Sequence[dict[str, Any]]) -> list[int]:
    """The most memory of several runs, on the GPU, and what the GPU has, in MiB; 0 where it was not recorded."""
    return [max((line.get(name, 0) for line in runs), default=0) for name in ("mib", "gpu_mib", "gpu_total_mib")]


def _share(statuses: pl.Series, status: str) -> float:
    return float((statuses == status).sum() / max(1, len(statuses)))
