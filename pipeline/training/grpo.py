"""GRPO with TRL: our order of questions, our engine for the completions, and every completion on record."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate.utils import gather_object
from trl import GRPOTrainer

from pipeline.core.engine import Request, Sampler
from pipeline.engines.local.transformers import TransformersEngine
from pipeline.training.order import Order

Record = Callable[[int, list[dict[str, Any]]], None]
"""Takes the number of a step, from 1, and its completions."""


class RolloutGenerator:
    """Draws the completions of a step with the pipeline's own engine.

    A prompt is read once for its whole group, and a completion is a function of seed, step, image and number: neither
    the number of processes nor a stop in between changes it but for rounding.
    """

    def __init__(self, model: Any, processor: Any, sampler: Sampler, max_rows: int, max_tokens: int, autocast: bool):
        self.engine = TransformersEngine.around(model, processor, max_rows, max_tokens)
        self.sampler, self.autocast = sampler, autocast

    def complete(self, rows: Sequence[dict[str, Any]], step: int) -> list[list[int]]:
        """Token ids of a completion for each row, the end mark included; the rows of a group are alike."""
        numbers: dict[str, int] = {}
        keys = []
        for row in rows:
            number = numbers.setdefault(row["image_id"], 0)
            numbers[row["image_id"]] += 1
            keys.append((f"{row['image_id']}/{step}", number))
        first = {f"{row['image_id']}/{step}": row for row in reversed(rows)}
        requests = [
            Request(key, row["picture"], row["prompt"][-1]["content"], range(numbers[row["image_id"]]))
            for key, row in first.items()
        ]
        model = self.engine.model
        self.engine.forget()
        model.eval()
        kind = torch.autocast(model.device.type, torch.bfloat16) if self.autocast else nullcontext()
        with kind:
            done = {
                (one.image_id, one.draw): one for batch in self.engine.draw(requests, self.sampler) for one in batch
            }
        self.engine.forget()
        model.train()
        return [list(done[key].ids) for key in keys]


class ResumeMixin:
    """A trainer of transformers that goes on from a checkpoint whose weights its model was opened with."""

    def _load_from_checkpoint(self, checkpoint: str, model: Any = None) -> None:
        # The trainer reads weights by the names of modules, and with some families those in the file are others:
        # nothing would be read, and nothing said but a warning. Adapters it reads well.
        if getattr(self.model, "peft_config", None):  # type: ignore[attr-defined]
            super()._load_from_checkpoint(checkpoint, model)  # type: ignore[misc]


class PolicyTrainer(ResumeMixin, GRPOTrainer):  # type: ignore[misc]
    """TRL's trainer, with what a run of ours adds.

    Args:
        order: of the questions.
        completer: draws the completions; None leaves them to TRL.
        record: is told every completion, on the main process.
        drop_flat_groups: completions of groups whose rewards are all alike count for nothing, not even for the KL term.
        before: steps of the same training that earlier rounds made, of `total`.
    """

    def __init__(
        self,
        *args: Any,
        order: Order,
        completer: RolloutGenerator | None,
        record: Record,
        drop_flat_groups: bool,
        before: int,
        total: int,
        **more: Any,
    ):
        self.order, self.completer, self.record, self.drop_flat_groups = order, completer, record, drop_flat_groups
        self.before, self.total = before, total
        self._rows: list[dict[str, Any]] = []
        super().__init__(*args, **more)

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        return self.order

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        scheduler = super().create_scheduler(self.total, optimizer)
        if not self.before:
            return scheduler
        for group in scheduler.optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        rates = [lambda step, rate=rate: rate(step + self.before) for rate in scheduler.lr_lambdas]
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(scheduler.optimizer, rates)
        return self.lr_scheduler

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        self._rows = inputs
        output = super()._generate_and_score_completions(inputs)
        if not self.model.training:
            return output
        if self.drop_flat_groups:
            groups = output["advantages"].view(-1, self.num_generations)
            lively = (groups != 0).any(dim=1).repeat_interleave(self.num_generations)
            output["completion_mask"] = output["completion_mask"] * lively[:, None]
        about = gather_object([{"image_id": row["image_id"], "options": row["options"]} for row in inputs])
        if self.accelerator.is_main_process:
            self.record(self.state.global_step + 1, self._completions(about))
        return output

    def _completions(self, about: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The completions that were scored last, of all processes."""
        count = len(about)
        logs = self._logs
        texts = ["".join(rotation["content"] for rotation in said) for said in list(logs["completion"])[-count:]]
        rewards = {name: list(values)[-count:] for name, values in logs["rewards"].items()}
        advantages = list(logs["advantages"])[-count:]
        return [
            {
                **about[place],
                "text": texts[place],
                "rewards": {name: values[place] for name, values in rewards.items()},
                "advantage": advantages[place],
            }
            for place in range(count)
        ]

    def _generate_single_turn(self, prompt_ids: Any, images: Any, *args: Any, **more: Any) -> Any:
        if self.completer is None or not self.model.training:
            return super()._generate_single_turn(prompt_ids, images, *args, **more)
        return self.completer.complete(self._rows, self.before + self.state.global_step), None

    def training_step(self, *args: Any, **more: Any) -> Any:
        loss = super().training_step(*args, **more)
        require_finite(loss, self.state.global_step + 1)
        return loss


class BrokenError(Exception):
    """Training has gone wrong in a way that no further step mends."""


def require_finite(loss: Any, step: int) -> None:
    """Raises BrokenError before a step that would spoil the weights."""
    if not torch.isfinite(loss).all():
        raise BrokenError(f"the loss of step {step} is {loss.item()}")
