"""TRL's GRPO trainer with passes that read a prompt once for its group."""

import inspect
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from peft import PeftModel
from trl import GRPOTrainer
from trl.trainer.utils import split_pixel_values_by_grid, split_tensor_dict, unsplit_pixel_values_by_grid

from pipeline.training.shared_prompts.attention import shared_prompt_attention
from pipeline.training.shared_prompts.pictures import GroupProcessor
from pipeline.training.shared_prompts.scoring import score
from pipeline.training.shared_prompts.trial import Trial

# Processors prepare more than this, which TRL's own loss leaves out as well.
SCORE_SETTINGS = inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters.keys()


class GroupTrainer(GRPOTrainer):  # type: ignore[misc]
    """TRL's trainer for questions of one picture each.

    Args:
        share_prompts: false leaves every pass to TRL.
    """

    processing_class: Any
    _buffered_inputs: Any

    def __init__(self, *args: Any, share_prompts: bool, **more: Any):
        self._until_gradients = ExitStack()
        super().__init__(*args, **more)
        precision = "bfloat16" if self.args.bf16 else str(self.model.dtype).removeprefix("torch.")
        self.sharing = Trial(share_prompts, precision)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        processor = self.processing_class
        if self.model.training:
            self.processing_class = GroupProcessor(processor, self.num_generations)
        try:
            return super()._generate_and_score_completions(inputs)
        finally:
            self.processing_class = processor

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """TRL's, without its shuffle, which would part the completions of a group: a step takes all of them anyway."""
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        if self._step % (self.args.steps_per_generation * self.num_iterations) == 0 or self._buffered_inputs is None:
            batch = split_pixel_values_by_grid(self._generate_and_score_completions(generation_batch))
            parts = split_tensor_dict(batch, self.args.steps_per_generation)
            self._buffered_inputs = [unsplit_pixel_values_by_grid(part) for part in parts]
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _get_per_token_logps_and_entropies(
        self, model: Any, ids: Any, mask: Any, keep: int, batch_size: int | None = None, **more: Any
    ) -> Any:
        """TRL's, or the same with each prompt shared by its group."""
        more = {name: value for name, value in more.items() if name in SCORE_SETTINGS}
        repeated = partial(super()._get_per_token_logps_and_entropies, model, ids, mask, keep, batch_size, **more)
        shared = partial(self._score_groups, model, ids, mask, keep, batch_size or len(ids), more)
        if self.model.training and self.sharing.allows(shared, repeated, mask[:, -keep:]):
            return *shared(), None
        return repeated()

    def _score_groups(
        self, model: Any, ids: Any, mask: Any, keep: int, batch_size: int, pictures: dict[str, Any]
    ) -> tuple[Any, Any]:
        if pictures.get("compute_aux_loss"):
            raise NotImplementedError("experts balanced by a loss over all tokens cannot share a prompt")
        base = self.accelerator.unwrap_model(model)
        base = base.get_base_model() if isinstance(base, PeftModel) else base
        with ExitStack() as stack:
            # Gradient checkpointing computes the attention again, for the gradients.
            scope = self._until_gradients if torch.is_grad_enabled() else stack
            scope.enter_context(shared_prompt_attention(base))
            stack.enter_context(self.accelerator.autocast())
            return score(model, base, ids, mask, keep, self.num_generations, batch_size, pictures)

    def training_step(self, *args: Any, **more: Any) -> Any:
        with self._until_gradients:
            return super().training_step(*args, **more)
