"""Every setting of training reaches TRL, and what TRL would do otherwise is written out."""

import re
from dataclasses import fields, replace

import pytest
from support.training import DEFAULTS, LISTS

from pipeline.core.params import UserError
from pipeline.method.rewards import rewards
from pipeline.method.two_steps import TwoStepParams
from pipeline.training.config import accumulation, grpo_config
from pipeline.training.params import TrainParams

TRL_NAMES = {
    "steps": "max_steps",
    "generations": "num_generations",
    "learning_rate": "learning_rate",
    "schedule": "lr_scheduler_type",
    "warmup_steps": "warmup_steps",
    "weight_decay": "weight_decay",
    "max_grad_norm": "max_grad_norm",
    "beta": "beta",
    "unbiased_kl": "use_bias_correction_kl",
    "loss_type": "loss_type",
    "scale_rewards": "scale_rewards",
    "updates_per_batch": "num_iterations",
    "clip": "epsilon",
    "rollout_temperature": "temperature",
    "rollout_top_p": "top_p",
    "rollout_top_k": "top_k",
    "rollout_repetition_penalty": "repetition_penalty",
    "max_completion_length": "max_completion_length",
    "drop_truncated": "mask_truncated_completions",
    "gradient_checkpointing": "gradient_checkpointing",
    "seed": "seed",
}
"""Our name of a setting and TRL's."""

# No settings of TRL, or not under one name: each has a test of its own here or in tests/stages/test_training.py.
OTHERS = {
    *("prompts_per_step", "prompts_per_device", "letter_weight", "format_weight", "precision", "clip_high", "rollouts"),
    *("method", "virft_reward", "rounds", "tuning", "lora_rank", "lora_alpha", "lora_dropout", "freeze", "weights"),
    *("check_every", "check_images", "check_samples", "max_kl", "launcher", "launch_config", "drop_flat_groups"),
    *("vllm_url", "model", "attention", "max_rows", "max_tokens", "threads", "hash_distance", "filler", "drop"),
}
OF_THE_TWO_STEPS = {field.name for field in fields(TwoStepParams)} - {"seed"}


def config(params, folder):
    return grpo_config(params, folder, params.steps)


def another(field, value):
    """Another valid value of the setting."""
    choices = field.metadata["one_of"]
    if choices:
        return next(choice for choice in choices if choice != value)
    if isinstance(value, bool):
        return not value
    return value / 2 if isinstance(value, float) and value else value + 1


def test_every_setting_has_its_test():
    assert {field.name for field in fields(TrainParams)} == {*TRL_NAMES, *OTHERS, *OF_THE_TWO_STEPS}


@pytest.mark.parametrize("field", [f for f in fields(TrainParams) if f.name in TRL_NAMES], ids=lambda f: f.name)
def test_every_setting_reaches_trl_under_its_name(field, tmp_path):
    value = another(field, getattr(DEFAULTS, field.name))
    result = config(replace(DEFAULTS, **{field.name: value}), tmp_path)
    assert getattr(result, TRL_NAMES[field.name]) == value


def test_weights_belong_to_the_rewards_in_their_order(tmp_path):
    result = config(replace(DEFAULTS, letter_weight=3.0, format_weight=0.5), tmp_path)
    names = [reward.__name__ for reward in rewards("divek", "matcher", LISTS)]
    assert dict(zip(names, result.reward_weights, strict=True)) == {"letter_reward": 3.0, "format_reward": 0.5}


def test_precision(tmp_path):
    results = [config(replace(DEFAULTS, precision=precision), tmp_path) for precision in ("float32", "bfloat16")]
    assert [result.bf16 for result in results] == [False, True]


def test_trl_counts_completions_where_we_count_prompts(tmp_path):
    result = config(replace(DEFAULTS, prompts_per_step=6, prompts_per_device=2, generations=4), tmp_path)
    assert result.per_device_train_batch_size == 2 * 4
    assert result.gradient_accumulation_steps == 3
    assert result.generation_batch_size == 6 * 4


def test_the_defaults_are_those_of_the_paper_and_not_those_of_trl(tmp_path):
    result = config(DEFAULTS, tmp_path)
    assert (result.beta, result.loss_type, result.scale_rewards) == (0.04, "grpo", "group")
    assert result.use_bias_correction_kl is False
    assert result.gradient_checkpointing is False
    assert result.num_iterations == 1


def test_the_upper_clip_range_and_vllm_reach_trl(tmp_path):
    assert config(DEFAULTS, tmp_path).epsilon_high == DEFAULTS.clip
    assert config(replace(DEFAULTS, clip_high=0.28), tmp_path).epsilon_high == 0.28
    assert config(DEFAULTS, tmp_path).use_vllm is False


def test_prompts_that_do_not_divide_are_refused(tmp_path):
    with pytest.raises(UserError, match="multiple"):
        config(replace(DEFAULTS, prompts_per_step=6, prompts_per_device=4), tmp_path)


@pytest.mark.parametrize(
    ("processes", "expected"),
    [("1", (4, 4)), ("2", (4, 2)), ("4", (4, 1)), ("8", (2, 1))],
    ids=lambda value: str(value),
)
def test_processes_share_the_prompts_of_a_step(monkeypatch, processes, expected):
    monkeypatch.setenv("WORLD_SIZE", processes)
    assert accumulation(replace(DEFAULTS, prompts_per_step=16, prompts_per_device=4)) == expected


def test_prompts_that_do_not_divide_among_the_processes_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    message = re.escape("but must be a multiple of 4 (train.prompts_per_device) × 3 (processes)")
    with pytest.raises(UserError, match=message):
        accumulation(replace(DEFAULTS, prompts_per_step=16, prompts_per_device=4))
