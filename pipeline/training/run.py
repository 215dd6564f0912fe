"""One run of a trainer over given questions: build, validate, resume, train."""

import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from transformers import PrinterCallback

from pipeline.core.params import UserError
from pipeline.core.progress import bar
from pipeline.method.class_lists import ClassLists
from pipeline.method.rewards import rewards
from pipeline.method.styles import style
from pipeline.training.checkpoints import RunFolder, step_of
from pipeline.training.config import grpo_config, sft_config
from pipeline.training.examples import examples, require_room
from pipeline.training.monitor import Check, DivergenceError, TrainingMonitor, Watch
from pipeline.training.order import Order
from pipeline.training.params import TrainParams
from pipeline.training.rollouts import RolloutGenerator, Rollouts
from pipeline.training.saving import copy_others, save_adapter, save_model
from pipeline.training.trackers import trackers
from pipeline.training.trl_adapter import PolicyTrainer, SupervisedTrainer, weights_are_sharded
from pipeline.training.tuning import adapter, freeze


@dataclass(frozen=True)
class RunLog:
    """The log of a run: TRL's history, every completion, and the score of each check by step."""

    history: list[dict[str, Any]]
    rollouts: list[dict[str, Any]]
    checks: dict[int, float]


def run(
    rows: pl.DataFrame,
    lists: ClassLists,
    params: TrainParams,
    model: Any,
    processor: Any,
    source: Path,
    folder: RunFolder,
    check: Check | None,
    steps: int,
    before: int,
    watch: Watch = lambda history, checks: None,
) -> RunLog:
    """Trains `model` for `steps` optimiser steps; afterwards the best weights are in folder.best.

    Args:
        rows: hard questions with pictures.
        source: folder of the model, of which the best weights get all files that training leaves as they are.
        check: scores the model on validation images; None if there are none.
        before: steps of the same training in earlier rounds, from which schedule and noise continue.
        watch: sees the log after every step.

    Raises:
        UserError: the params do not fit the data or the machine, or training diverged.
    """
    # transformers warns of a deprecated name in TRL, which readers of the log cannot change.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
    params.chat.prompt(processor, "What?")  # a template that refuses a setting is an error now
    params = replace(params, template_kwargs=params.chat.kwargs_of(processor))
    dataset = examples(rows, lists, params)
    longest = require_room(dataset, processor, model, params)
    params = replace(params, vllm_length=params.vllm_length or longest)
    folder.path.mkdir(parents=True, exist_ok=True)
    freeze(model, params.freeze)
    rollouts: Rollouts | None = None
    trainer: Any
    if params.method == "sft":
        trainer = supervised_trainer(dataset, params, model, processor, folder, steps, before)
    else:
        reward_functions = rewards(params.method, params.virft_reward, lists, style(params.prompt).thought)
        rollouts = Rollouts((reward_functions[0].__name__, reward_functions[1].__name__))
        trainer = policy_trainer(
            dataset, params, model, processor, folder, steps, before, list(reward_functions), rollouts
        )
    trainer.remove_callback(PrinterCallback)
    require_whole_weights(trainer, params)
    checks = train(trainer, params, source, folder, check, steps, rollouts, watch)
    if weights_are_sharded(trainer):  # every process contributes its weights
        trainer.save_model(str(folder.best))
        if trainer.is_world_process_zero():
            copy_others(source, folder.best)
    trainer.accelerator.wait_for_everyone()  # a further round reads folder.best in every process
    return RunLog(trainer.state.log_history, rollouts.rows if rollouts else [], checks)


def policy_trainer(
    dataset: Any,
    params: TrainParams,
    model: Any,
    processor: Any,
    folder: RunFolder,
    steps: int,
    before: int,
    reward_functions: list[Any],
    rollouts: Rollouts,
) -> PolicyTrainer:
    """A GRPO trainer of `steps` steps."""
    config = grpo_config(params, folder.path, steps)
    order = Order(
        len(dataset),
        params.prompts_per_step,
        -(-steps // params.updates_per_batch),
        params.generations,
        config.steps_per_generation * params.updates_per_batch,
        params.seed,
        -(-before // params.updates_per_batch),
    )
    return PolicyTrainer(
        model=model,
        reward_funcs=reward_functions,
        args=config,
        train_dataset=dataset,
        processing_class=processor,
        peft_config=adapter(model, params),
        order=order,
        generator=RolloutGenerator(model, processor, params) if params.rollouts == "engine" else None,
        record=rollouts,
        drop_flat_groups=params.drop_flat_groups,
        share_prompts=params.share_prompts,
        before=before,
        total=params.steps,
    )


def supervised_trainer(
    dataset: Any, params: TrainParams, model: Any, processor: Any, folder: RunFolder, steps: int, before: int
) -> SupervisedTrainer:
    """A supervised trainer of `steps` steps."""
    return SupervisedTrainer(
        model=model,
        args=sft_config(params, folder.path, steps),
        train_dataset=dataset,
        processing_class=processor,
        peft_config=adapter(model, params),
        order=Order(len(dataset), params.prompts_per_step, steps, seed=params.seed, first=before),
        before=before,
        total=params.steps,
    )


def require_whole_weights(trainer: Any, params: TrainParams) -> None:
    """Raises UserError if the weights are sharded and the params need them whole."""
    if not weights_are_sharded(trainer):
        return
    if params.tuning == "lora":
        raise UserError(
            "params.yaml: train.tuning is lora, whose additions cannot be added into weights that are sharded over "
            "processes; set `dvc exp run -S train.tuning=full`, or use presets/accelerate/eight-gpus.yaml"
        )
    if params.method != "sft" and params.rollouts == "engine":
        raise UserError(
            "params.yaml: train.rollouts is engine, which needs whole weights, and these are sharded over processes; "
            "set `dvc exp run -S train.rollouts=generate` (or vllm_colocate, docs/scale.md)"
        )


def train(
    trainer: Any,
    params: TrainParams,
    source: Path,
    folder: RunFolder,
    check: Check | None,
    steps: int,
    rollouts: Rollouts | None,
    watch: Watch,
) -> dict[int, float]:
    """Trains, from the last checkpoint on if there is one. Returns the score of each check by step."""
    checkpoint = folder.last()
    done = step_of(checkpoint) if checkpoint else 0
    try:
        # Of several processes only one shows a bar.
        with bar("training", steps - done, "steps", visible=trainer.is_world_process_zero()) as advance:
            monitor = TrainingMonitor(
                folder,
                params.check_every,
                check,
                partial(save_adapter, source=source, base=params.model)
                if params.save == "adapter"
                else partial(save_model, source=source),
                rollouts,
                params.max_kl,
                weights_are_sharded(trainer),
                advance,
                watch,
            )
            trainer.add_callback(monitor)
            if trainer.is_world_process_zero():
                for tracker in trackers(params.report_to, folder.path, done):
                    trainer.add_callback(tracker)
            if checkpoint:
                print(f"continuing from {checkpoint}")
                monitor.restore(folder.progress(checkpoint))
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except DivergenceError as error:
        last = folder.last()
        hint = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
        raise UserError(
            f"train: {error}; {hint}; set `dvc exp run -S train.learning_rate=…` lower, or train.beta higher"
        ) from error
    return monitor.checks
