"""Our settings as TRL's: TRL counts completions where params.yaml counts prompts."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from pipeline.core.params import UserError
from pipeline.training.launch import shards_with_fsdp
from pipeline.training.params import SCHEDULES, TrainParams
from pipeline.training.trackers import PROJECT, run_name
from pipeline.training.tuning import weights_dtype

CHECKPOINTING = ("gradient_checkpointing", "activation_checkpointing")
ADAM = {"adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8, "optim": "adamw_torch"}
SAPO = {"sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05}  # of its paper, arXiv 2511.20347
VESPO = {"vespo_k_pos": 2.0, "vespo_lambda_pos": 3.0, "vespo_k_neg": 3.0, "vespo_lambda_neg": 2.0}  # arXiv 2602.10693
LEVELS = {"luspo": "sequence", "vespo": "token"}
"""Losses that are defined for one importance_sampling_level only."""


def accumulation(params: TrainParams) -> tuple[int, int]:
    """Prompts of one process in a micro-batch, and the micro-batches of a step.

    A micro-batch is the largest one of equal size that train.prompts_per_device allows. Raises UserError where the
    prompts of a step do not divide among the processes.
    """
    processes, prompts = int(os.environ.get("WORLD_SIZE", "1")), params.prompts_per_step
    if prompts % processes:
        lower = prompts - prompts % processes
        nearest = [f"`dvc exp run -S train.prompts_per_step={near}`" for near in (lower, lower + processes) if near]
        *fewer, most = map(str, fitting_processes(prompts))
        raise UserError(
            f"params.yaml: train.prompts_per_step is {prompts}, which does not divide among {processes} processes; set "
            f"{' or '.join(nearest)}, or num_processes in train.launch_config to "
            f"{' or '.join([', '.join(fewer), most] if fewer else [most])}"
        )
    of_process = prompts // processes
    at_once = max(size for size in fitting_processes(of_process) if size <= params.prompts_per_device)
    return at_once, of_process // at_once


def fitting_processes(prompts: int) -> list[int]:
    """The numbers of processes among which so many prompts of a step divide."""
    return [number for number in range(1, prompts + 1) if prompts % number == 0]


def _shared(params: TrainParams, folder: Path, steps: int) -> dict[str, Any]:
    """The settings that all methods share. Raises UserError."""
    import torch
    from transformers import TrainingArguments

    require_schedule(params)
    fields = {field.name for field in dataclasses.fields(TrainingArguments)}
    return {
        "output_dir": str(folder),
        "use_cpu": not torch.cuda.is_available(),
        "bf16": params.precision == "bfloat16",
        # Both names, where transformers has the new one (5.21): TRL has its own default for the old one.
        **{name: params.gradient_checkpointing for name in CHECKPOINTING if name in fields},
        "max_steps": steps,
        "learning_rate": params.learning_rate,
        "lr_scheduler_type": params.schedule,
        "lr_scheduler_kwargs": dict(params.lr_scheduler_kwargs) or None,
        "warmup_steps": params.warmup_steps,
        "weight_decay": params.weight_decay,
        **ADAM,
        "max_grad_norm": params.max_grad_norm,
        "remove_unused_columns": False,
        "pad_to_multiple_of": None,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "seed": params.seed,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "save_strategy": "no",  # the monitor requests each checkpoint
        "report_to": [],  # the trackers are added as callbacks, after the monitor
        "project": PROJECT,
        "run_name": run_name(folder),
    }


def require_schedule(params: TrainParams) -> None:
    """Raises UserError where train.lr_scheduler_kwargs do not fit the schedule."""
    kwargs, allowed = params.lr_scheduler_kwargs, SCHEDULES[params.schedule]
    floors = {"min_lr", "min_lr_rate"} & allowed
    if not {*kwargs} <= allowed or (floors and len(floors & {*kwargs}) != 1):
        expected = f"names among {', '.join(sorted(allowed))}" if allowed else "none"
        raise UserError(
            f"params.yaml: train.lr_scheduler_kwargs is {kwargs or 'empty'}, and train.schedule {params.schedule}; "
            f"expected {expected}{', one of min_lr and min_lr_rate among them' if floors else ''}; such as "
            "`dvc exp run -S train.schedule=cosine_with_min_lr -S ++train.lr_scheduler_kwargs.min_lr_rate=0.1`"
        )


def grpo_config(params: TrainParams, folder: Path, steps: int) -> Any:
    """TRL's settings of a run of `steps` optimiser steps. Raises UserError."""
    from trl import GRPOConfig

    at_once, micro_batches = accumulation(params)
    require_loss(params)
    return GRPOConfig(
        **_shared(params, folder, steps),
        per_device_train_batch_size=at_once * params.generations,
        gradient_accumulation_steps=micro_batches,
        num_generations=params.generations,
        num_iterations=params.updates_per_batch,
        beta=params.beta,
        use_bias_correction_kl=params.unbiased_kl,
        sync_ref_model=False,
        entropy_coef=0.0,
        use_adaptive_entropy=False,
        top_entropy_quantile=1.0,
        loss_type=params.loss_type,
        scale_rewards=params.scale_rewards,
        multi_objective_aggregation=params.aggregation,
        importance_sampling_level=params.importance_sampling_level,
        **SAPO,
        **VESPO,
        epsilon=params.clip,
        epsilon_high=params.clip_high or params.clip,
        delta=None,
        off_policy_mask_threshold=None,
        reward_weights=[params.letter_weight, params.format_weight],
        chat_template_kwargs=params.template_kwargs or None,
        max_completion_length=params.max_completion_length,
        mask_truncated_completions=params.drop_truncated,
        temperature=params.rollout_temperature,
        top_p=params.rollout_top_p,
        top_k=params.rollout_top_k,
        min_p=None,
        repetition_penalty=params.rollout_repetition_penalty,
        disable_dropout=True,
        shuffle_dataset=True,
        log_completions=False,
        # Read for the reference model only, which would be loaded in the float32 of the masters; TRL's own device_map
        # would spread it over all GPUs in every process of FSDP.
        model_init_kwargs={"dtype": params.weights, "device_map": None}
        if shards_with_fsdp() or weights_dtype(params) != params.weights
        else None,
        **_vllm(params),
    )


def require_loss(params: TrainParams) -> None:
    """Raises UserError where the settings of the loss contradict each other."""
    loss, level = params.loss_type, params.importance_sampling_level
    if (expected := LEVELS.get(loss, level)) != level:
        raise UserError(
            f"params.yaml: train.loss_type {loss} is defined for the ratio of a {expected}, and "
            f"train.importance_sampling_level is {level}; "
            f"set `dvc exp run -S train.importance_sampling_level={expected}`"
        )
    largest = params.clip_high or params.clip
    if loss == "cispo" and largest < 1:
        raise UserError(
            f"params.yaml: train.loss_type is cispo, for which train.clip_high is the largest ratio itself, and it is "
            f"{largest:g}; expected 1 or more, such as `dvc exp run -S train.clip_high=5`"
        )


def _vllm(params: TrainParams) -> dict[str, Any]:
    """The settings for completions that vLLM draws."""
    if not params.rollouts.startswith("vllm_"):
        return {"use_vllm": False}
    mode = params.rollouts.removeprefix("vllm_")
    place = {
        "vllm_gpu_memory_utilization": params.vllm_memory,
        "vllm_max_model_length": params.vllm_length or None,
        "vllm_enable_sleep_mode": params.vllm_sleeps,
    }
    return {
        "use_vllm": True,
        "vllm_mode": mode,
        # VESPO takes no other mode.
        "vllm_importance_sampling_mode": "token_truncate" if params.loss_type == "vespo" else "sequence_mask",
        **({"vllm_server_base_url": params.vllm_url} if mode == "server" else place),
    }


def sft_config(params: TrainParams, folder: Path, steps: int) -> Any:
    """TRL's settings of supervised training over as many images a step as the other methods have prompts."""
    from trl import SFTConfig

    at_once, micro_batches = accumulation(params)
    return SFTConfig(
        **_shared(params, folder, steps),
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=micro_batches,
        completion_only_loss=True,
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
