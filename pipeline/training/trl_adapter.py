"""TRL's trainers with our order of questions, our engine for the completions, and every completion on record.

This file and shared_prompts/trainer.py alone override or read private members of TRL's trainers.
"""

from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils import gather_object
from trl import SFTTrainer

from pipeline.engines.common.patch_embedding import use_patch_products
from pipeline.method.thoughts import whole_turn
from pipeline.training.masters import MasterAdamW, needs_masters
from pipeline.training.monitor import DivergenceError
from pipeline.training.order import Order
from pipeline.training.rollouts import RolloutGenerator
from pipeline.training.shared_prompts.trainer import GroupTrainer

Record = Callable[[int, list[dict[str, Any]]], None]
"""Takes the number of a step, from 1, and its completions."""

TAIL = 16  # tokens of a prompt's end, more than <think>, </think> and white space ever take


class TrainerMixin:
    """A trainer in an order of ours, with masters of weights of 16 bits and one schedule over all rounds.

    It continues from a checkpoint whose weights its model was loaded with.

    Attributes:
        order: of the examples.
        before: steps of the same training in earlier rounds, of `total`.
    """

    order: Order
    before: int
    total: int

    def create_optimizer(self, model: Any = None) -> Any:
        if needs_masters(self):
            _, settings = self.get_optimizer_cls_and_kwargs(self.args)  # type: ignore[attr-defined]
            self.optimizer_cls_and_kwargs = (MasterAdamW, settings)
        return super().create_optimizer(model)  # type: ignore[misc]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        scheduler = super().create_scheduler(self.total, optimizer)  # type: ignore[misc]
        if not self.before:
            return scheduler
        for group in scheduler.optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        rates = [lambda step, rate=rate: rate(step + self.before) for rate in scheduler.lr_lambdas]
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(scheduler.optimizer, rates)
        return self.lr_scheduler

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
        before: steps of the same training in earlier rounds, of `total`.
    """

    def __init__(self, *args: Any, order: Order, before: int, total: int, **more: Any):
        self.order, self.before, self.total = order, before, total
        super().__init__(*args, **more)


class PolicyTrainer(TrainerMixin, GroupTrainer):
    """TRL's GRPO trainer.

    Args, beside those of GroupTrainer:
        order: of the questions.
        generator: draws the completions; None leaves them to TRL.
        record: gets every completion, on the main process.
        drop_flat_groups: leave completions of groups whose rewards are all equal out of the loss, KL term included.
        before: steps of the same training in earlier rounds, of `total`.
    """

    def __init__(
        self,
        *args: Any,
        order: Order,
        generator: RolloutGenerator | None,
        record: Record,
        drop_flat_groups: bool,
        before: int,
        total: int,
        **more: Any,
    ):
        self.order, self.generator, self.record, self.drop_flat_groups = order, generator, record, drop_flat_groups
        self.before, self.total = before, total
        self._rows: list[dict[str, Any]] = []
        super().__init__(*args, **more)
        if self.ref_model is not None:  # loaded by TRL
            use_patch_products(self.ref_model)
        if generator is not None:  # an adapter may be around the model by now
            generator.engine.model = self.accelerator.unwrap_model(self.model)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        if not self.model.training:
            return super()._generate_and_score_completions(inputs)
        self._rows = inputs
        output = super()._generate_and_score_completions(inputs)
        if self.drop_flat_groups:
            groups = output["advantages"].view(-1, self.num_generations)
            varied = (groups != groups[:, :1]).any(dim=1).repeat_interleave(self.num_generations)
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
        """The whole turns of the model, for rewards and record: a thought that the prompt begins is part of them.

        The ids stay the model's own. Texts are read from them, because TRL's lack the thought where a tokenizer brings
        a parser along.
        """
        prompt_ids, completion_ids, mask, _, *others = super()._generate(prompts)
        texts = self.processing_class.batch_decode(completion_ids, skip_special_tokens=True)
        tails = self.processing_class.batch_decode([ids[-TAIL:] for ids in prompt_ids])
        contents = [whole_turn(text, tail) for text, tail in zip(texts, tails, strict=True)]
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

    def training_step(self, *args: Any, **more: Any) -> Any:
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
