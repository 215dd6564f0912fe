"""The completions of training: how they are drawn, and a record of each."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from pipeline.core.engine import Request, Sampler
from pipeline.engines.local.transformers import TransformersEngine
from pipeline.method.answers import letter
from pipeline.training.params import TrainParams

LETTER_STEPS = 10  # steps over which the letters of the answers are counted


def rollout_sampler(params: TrainParams) -> Sampler:
    """How completions are drawn in training."""
    return Sampler(
        temperature=params.rollout_temperature,
        top_p=params.rollout_top_p,
        top_k=params.rollout_top_k,
        repetition_penalty=params.rollout_repetition_penalty,
        penalize_prompt=True,
        max_new_tokens=params.max_completion_length,
        stop=(),
        seed=params.seed,
    )


@contextmanager
def inference(model: Any, precision: str) -> Iterator[None]:
    """Draws from a model that is being trained: without dropout, in the precision of training."""
    import torch

    is_training = model.training
    model.eval()
    with torch.autocast(model.device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext():
        yield
    model.train(is_training)


class RolloutGenerator:
    """Draws the completions of a step with the pipeline's own engine.

    A prompt is encoded once for its whole group. A completion is a function of seed, step, image and number: except for
    rounding, neither the number of processes nor an interruption changes it.
    """

    def __init__(self, model: Any, processor: Any, params: TrainParams):
        self.engine = TransformersEngine.of_model(model, processor, params.max_rows, params.max_tokens, params.chat)
        self.sampler, self.precision = rollout_sampler(params), params.precision

    def generate(self, rows: Sequence[dict[str, Any]], step: int) -> list[list[int]]:
        """Token ids of a completion for each row, the end mark included; the rows of a group are equal."""
        counts = Counter[str]()
        keys = []
        for row in rows:
            keys.append((f"{row['image_id']}/{step}", counts[row["image_id"]]))
            counts[row["image_id"]] += 1
        first = {f"{row['image_id']}/{step}": row for row in reversed(rows)}
        requests = [
            Request(key, row["picture"], row["prompt"][-1]["content"], range(counts[row["image_id"]]))
            for key, row in first.items()
        ]
        self.engine.clear()
        with inference(self.engine.model, self.precision):
            batches = list(self.engine.draw(requests, self.sampler))
        self.engine.clear()
        ids = {(completion.image_id, completion.draw): completion.ids for batch in batches for completion in batch}
        return [list(ids[key]) for key in keys]


class Rollouts:
    """Every completion of a run, as rows of the table of rollouts.

    Args:
        rewards: names of the reward functions for the answer and for the format.
    """

    def __init__(self, rewards: tuple[str, str]):
        self.answer_reward, self.format_reward = rewards
        self.rows: list[dict[str, Any]] = []

    def __call__(self, step: int, completions: list[dict[str, Any]]) -> None:
        numbers = Counter[str]()
        for completion in completions:
            image_id, text, options = completion["image_id"], completion["text"], completion["options"]
            self.rows.append(
                {
                    "step": step,
                    "image_id": image_id,
                    "rollout": numbers[image_id],
                    "text": text,
                    "letter": letter(text, options) if options else None,
                    "answer_reward": completion["rewards"][self.answer_reward],
                    "format_reward": completion["rewards"][self.format_reward],
                    "advantage": completion["advantage"],
                }
            )
            numbers[image_id] += 1

    def letters(self, step: int) -> Counter[str]:
        """Counts of the letters in the last LETTER_STEPS steps up to `step`."""
        recent = (row["letter"] for row in reversed(self.rows) if step - LETTER_STEPS < row["step"] <= step)
        return Counter(name for name in recent if name)
