"""One run of a trainer over given questions, from its last checkpoint on if there is one."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from transformers import PrinterCallback

from pipeline.core.engine import Sampler
from pipeline.core.params import UserError
from pipeline.core.progress import bar
from pipeline.method.class_lists import ClassLists
from pipeline.method.rewards import rewards
from pipeline.training.checkpoints import Work
from pipeline.training.config import grpo_config, sft_config
from pipeline.training.examples import examples, require_room
from pipeline.training.grpo import BrokenError, PolicyTrainer, ResumeMixin, RolloutGenerator
from pipeline.training.order import Order
from pipeline.training.params import TrainParams
from pipeline.training.tuning import adapter, freeze
from pipeline.training.watch import Rollouts, Watch


@dataclass(frozen=True)
class RunLog:
    """What a run leaves: TRL's log, every completion, and the score of each check by step."""

    history: list[dict[str, Any]]
    rollouts: list[dict[str, Any]]
    checks: dict[int, float]


def run(
    rows: pl.DataFrame,
    lists: ClassLists,
    wanted: TrainParams,
    model: Any,
    processor: Any,
    work: Work,
    check: Callable[[Any], float] | None,
    steps: int,
    before: int,
) -> RunLog:
    """Trains `model` in `steps` optimiser steps; the best weights are in work.best afterwards. Raises UserError.

    `before` steps of the same training were made in earlier rounds: schedule and noise go on from there.
    """
    # transformers warns of a name that TRL calls it by: nothing that a reader of the log could mend.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
    found = examples(rows, lists, wanted)
    require_room(found, processor, model, wanted)
    work.folder.mkdir(parents=True, exist_ok=True)
    answer_reward, format_reward = rewards(wanted.method, wanted.virft_reward, lists)
    supervised = wanted.method == "sft"
    rollouts = None if supervised else Rollouts((answer_reward.__name__, format_reward.__name__))
    freeze(model, wanted.freeze)
    watch = Watch(
        work,
        wanted.check_every,
        (lambda: check(trainer.accelerator.unwrap_model(trainer.model))) if check else None,
        lambda folder: save(trainer.accelerator.unwrap_model(trainer.model), processor, folder),
        rollouts,
        wanted.max_kl,
    )
    trainer: Any
    if supervised:
        trainer = _supervised(found, wanted, model, processor, work, watch, steps, before)
    else:
        assert rollouts is not None
        completer = None
        if wanted.rollouts == "engine":
            completer = RolloutGenerator(
                model, processor, sampler(wanted), wanted.max_rows, wanted.max_tokens, wanted.precision == "bfloat16"
            )
        config = grpo_config(wanted, work.folder, steps)
        trainer = PolicyTrainer(
            model=model,
            reward_funcs=[answer_reward, format_reward],
            args=config,
            train_dataset=found,
            processing_class=processor,
            callbacks=[watch],
            peft_config=adapter(model, wanted),
            order=Order(
                len(found),
                wanted.prompts_per_step,
                -(-steps // wanted.updates_per_batch),
                wanted.generations,
                config.steps_per_generation * wanted.updates_per_batch,
                wanted.seed,
                -(-before // wanted.updates_per_batch),
            ),
            completer=completer,
            record=rollouts,
            drop_flat_groups=wanted.drop_flat_groups,
            before=before,
            total=wanted.steps,
        )
        if completer is not None:  # an adapter is around the model by now
            completer.engine.model = trainer.accelerator.unwrap_model(trainer.model)
    sharded = shared_out(trainer)
    if sharded:
        if wanted.tuning == "lora":
            raise UserError(
                "params.yaml: train.tuning is lora, whose additions cannot go into weights that are shared out among "
                "processes; set it with `dvc exp run -S train.tuning=full`, or take presets/accelerate/eight-gpus.yaml"
            )
        if not supervised and wanted.rollouts == "engine":
            raise UserError(
                "params.yaml: train.rollouts is engine, which wants whole weights, and these are shared out among the "
                "processes; set it with `dvc exp run -S train.rollouts=generate` (or vllm_colocate, docs/scale.md)"
            )
        watch.whole = False
    trainer.remove_callback(PrinterCallback)
    last = work.last()
    if last is not None:
        print(f"going on from {last}")
        watch.restore(work.kept(last))
    done = int(last.name.rpartition("-")[2]) if last else 0
    try:
        first = trainer.is_world_process_zero()  # of several processes one shows a bar
        with bar("training", steps - done, "steps", shown=first) as watch.advance:
            trainer.train(resume_from_checkpoint=str(last) if last else None)
    except BrokenError as error:
        good = work.last()
        kept = f"the last good checkpoint is {good}" if good else "no checkpoint was there yet"
        raise UserError(
            f"train: {error}; {kept}; lower it with `dvc exp run -S train.learning_rate=…`, or raise train.beta"
        ) from error
    trainer.accelerator.wait_for_everyone()
    if sharded:  # every process has a part of the weights to give
        trainer.save_model(str(work.best))
        processor.save_pretrained(work.best)
    return RunLog(trainer.state.log_history, rollouts.rows if rollouts else [], watch.checks)


def shared_out(trainer: Any) -> bool:
    """Whether no process has the whole weights: FSDP, or DeepSpeed's ZeRO-3."""
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    return bool(trainer.is_fsdp_enabled or (plugin is not None and plugin.zero_stage == 3))


def sampler(wanted: TrainParams) -> Sampler:
    """How completions are drawn in training."""
    return Sampler(
        temperature=wanted.rollout_temperature,
        top_p=wanted.rollout_top_p,
        top_k=wanted.rollout_top_k,
        repetition_penalty=wanted.rollout_repetition_penalty,
        penalize_prompt=True,
        max_new_tokens=wanted.max_completion_length,
        stop=(),
        seed=wanted.seed,
    )


def _supervised(
    found: Any, wanted: TrainParams, model: Any, processor: Any, work: Work, watch: Watch, steps: int, before: int
) -> Any:
    from trl import SFTTrainer

    order = Order(len(found), wanted.prompts_per_step, steps, seed=wanted.seed, first=before)

    class SupervisedTrainer(ResumeMixin, SFTTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return order

    return SupervisedTrainer(
        model=model,
        args=sft_config(wanted, work.folder, steps),
        train_dataset=found,
        processing_class=processor,
        callbacks=[watch],
        peft_config=adapter(model, wanted),
    )


def save(model: Any, processor: Any, folder: Path) -> None:
    """Writes model and processor; low-rank additions are added into a copy of the weights first."""
    if hasattr(model, "get_base_model"):
        base = model.get_base_model()
        state = {
            name.replace(".base_layer", ""): weights
            for name, weights in base.state_dict().items()
            if ".lora_" not in name
        }
        # peft's own merge adds to the weights in place, and taking it off again leaves 16-bit weights changed.
        for name, layer in base.named_modules():
            if hasattr(layer, "get_delta_weight"):
                weights = state[f"{name}.weight"]
                added = sum(layer.get_delta_weight(one).float() for one in layer.active_adapters)
                state[f"{name}.weight"] = (weights.float() + added).to(weights.dtype).cpu()
        base.save_pretrained(folder, state_dict=state)
    else:
        model.save_pretrained(folder)
    processor.save_pretrained(folder)
