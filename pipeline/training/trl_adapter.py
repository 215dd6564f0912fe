"""TRL's trainers with our order of questions, our engine for the completions, and every completion on record.

The only file that overrides or reads private members of TRL's trainers.
"""

import inspect
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from accelerate.utils import gather_object
from peft import PeftModel
from trl import GRPOTrainer, SFTTrainer
from trl.trainer.utils import split_pixel_values_by_grid, split_tensor_dict, unsplit_pixel_values_by_grid

from pipeline.engines.common.patch_embedding import use_patch_products
from pipeline.method.thoughts import complete_thought
from pipeline.training.masters import MasterAdamW, needs_masters
from pipeline.training.monitor import DivergenceError
from pipeline.training.order import Order
from pipeline.training.rollouts import RolloutGenerator
from pipeline.training.shared_prompts.attention import shared_prompt_attention
from pipeline.training.shared_prompts.pictures import GroupProcessor
from pipeline.training.shared_prompts.scoring import score
from pipeline.training.shared_prompts.trial import Trial

Record = Callable[[int, list[dict[str, Any]]], None]
"""Takes the number of a step, from 1, and its completions."""

TAIL = 16  # tokens of a prompt's end, more than <think> and white space ever take


# Processors prepare more than this, which TRL's own loss leaves out as well.
SCORE_SETTINGS = inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters.keys()


class TrainerMixin:
    """A trainer in an order of ours, with masters of weights of 16 bits.

    It continues from a checkpoint whose weights its model was loaded with.
    """

    order: Order

    def create_optimizer(self, model: Any = None) -> Any:
        if needs_masters(self):
            _, settings = self.get_optimizer_cls_and_kwargs(self.args)  # type: ignore[attr-defined]
            self.optimizer_cls_and_kwargs = (MasterAdamW, settings)
        return super().create_optimizer(model)  # type: ignore[misc]

    def _load_from_checkpoint(self, checkpoint: str, model: Any = None) -> None:
        # The trainer reads weights by the names of modules. In some model families the names in the file differ, and
        # nothing would be loaded, with only a warning. Adapters load correctly.
        if getattr(self.model, "peft_config", None):  # type: ignore[attr-defined]
            super()._load_from_checkpoint(checkpoint, model)  # type: ignore[misc]

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        return self.order


class SupervisedTrainer(TrainerMixin, SFTTrainer):  # type: ignore[misc]
    """TRL's supervised trainer.

    Args:
        order: of the examples.
    """

    def __init__(self, *args: Any, order: Order, **more: Any):
        self.order = order
        super().__init__(*args, **more)


class PolicyTrainer(TrainerMixin, GRPOTrainer):  # type: ignore[misc]
    """TRL's GRPO trainer.

    Args:
        order: of the questions.
        generator: draws the completions; None leaves them to TRL.
        record: gets every completion, on the main process.
        drop_flat_groups: leave completions of groups whose rewards are all equal out of the loss, KL term included.
        share_prompts: read a prompt once for its group, where the model can.
        before: steps of the same training in earlier rounds, of `total`.
    """

    def __init__(
        self,
        *args: Any,
        order: Order,
        generator: RolloutGenerator | None,
        record: Record,
        drop_flat_groups: bool,
        share_prompts: bool,
        before: int,
        total: int,
        **more: Any,
    ):
        self.order, self.generator, self.record, self.drop_flat_groups = order, generator, record, drop_flat_groups
        self.before, self.total = before, total
        self._rows: list[dict[str, Any]] = []
        self._until_gradients = ExitStack()
        super().__init__(*args, **more)
        precision = "bfloat16" if self.args.bf16 else str(self.model.dtype).removeprefix("torch.")
        self.sharing = Trial(share_prompts, precision)
        if self.ref_model is not None:  # loaded by TRL
            use_patch_products(self.ref_model)
        if generator is not None:  # an adapter may be around the model by now
            generator.engine.model = self.accelerator.unwrap_model(self.model)

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
        if not self.model.training:
            return super()._generate_and_score_completions(inputs)
        self._rows, processor = inputs, self.processing_class
        self.processing_class = GroupProcessor(processor, self.num_generations)
        try:
            output = super()._generate_and_score_completions(inputs)
        finally:
            self.processing_class = processor
        if self.drop_flat_groups:
            groups = output["advantages"].view(-1, self.num_generations)
            varied = (groups != 0).any(dim=1).repeat_interleave(self.num_generations)
            output["completion_mask"] = output["completion_mask"] * varied[:, None]
        examples = gather_object([{"image_id": row["image_id"], "options": row["options"]} for row in inputs])
        if self.accelerator.is_main_process:
            self.record(self.state.global_step + 1, self._completions(examples))
        return output

    def _completions(self, examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The completions that were scored last, of all processes."""
        count, logs = len(examples), self._logs
        texts = ["".join(turn["content"] for turn in chat) for chat in list(logs["completion"])[-count:]]
        rewards = {name: list(values)[-count:] for name, values in logs["rewards"].items()}
        advantages = list(logs["advantages"])[-count:]
        return [
            {
                **example,
                "text": texts[place],
                "rewards": {name: values[place] for name, values in rewards.items()},
                "advantage": advantages[place],
            }
            for place, example in enumerate(examples)
        ]

    def _generate(self, prompts: list[Any]) -> Any:
        """The completions with the thought that their prompts open, for rewards and record; the ids are the model's.

        Read from the ids: where a tokenizer brings a parser along, TRL takes the thought out of the text.
        """
        prompt_ids, completion_ids, mask, _, *others = super()._generate(prompts)
        texts = self.processing_class.batch_decode(completion_ids, skip_special_tokens=True)
        tails = self.processing_class.batch_decode([ids[-TAIL:] for ids in prompt_ids])
        contents = [complete_thought(text, tail) for text, tail in zip(texts, tails, strict=True)]
        return prompt_ids, completion_ids, mask, [[{"role": "assistant", "content": one}] for one in contents], *others

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        """TRL's, once for a group; without what the model reads of pictures, which our engine prepares itself."""
        if self.generator is None or not self.model.training:
            return super()._tokenize_prompts(prompts)
        ids, images = [], []
        for prompt in prompts[:: self.num_generations]:  # alone, since some processors refuse several lengths
            ids_of_one, images_of_one, _ = super()._tokenize_prompts([prompt])
            ids += ids_of_one * self.num_generations
            images += images_of_one * self.num_generations
        return ids, images, {}

    def _generate_single_turn(self, prompt_ids: Any, images: Any, *args: Any, **more: Any) -> Any:
        if self.generator is None or not self.model.training:
            return super()._generate_single_turn(prompt_ids, images, *args, **more)
        return self.generator.generate(self._rows, self.before + self.state.global_step), None

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
            loss = super().training_step(*args, **more)
        require_finite(loss, self.state.global_step + 1)
        return loss


def require_finite(loss: Any, step: int) -> None:
    """Raises DivergenceError before a step that would spoil the weights."""
    if not torch.isfinite(loss).all():
        raise DivergenceError(f"the loss of step {step} is {loss.item()}")


def set_reference(model: Any, source: str) -> None:
    """Makes TRL load the reference model of the KL term from `source`."""
    model.config._name_or_path = source


def weights_are_sharded(trainer: Any) -> bool:
    """Whether no process has the whole weights: FSDP, or DeepSpeed's ZeRO-3."""
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    return bool(trainer.is_fsdp_enabled or (plugin is not None and plugin.zero_stage == 3))
