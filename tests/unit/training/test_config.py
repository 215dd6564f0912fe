"""Every setting of training reaches TRL, and what TRL would do otherwise is written out."""

import re
from dataclasses import fields, replace

import pytest
from support.training import DEFAULTS, LISTS

from pipeline.core.params import UserError
from pipeline.method.rewards import rewards
from pipeline.method.two_steps import TwoStepParams
from pipeline.training.config import accumulation, fitting_processes, grpo_config
from pipeline.training.params import TrainParams

TRL_NAMES = {
    "steps": "max_steps",
    "generations": "num_generations",
    "learning_rate": "learning_rate",
    "warmup_steps": "warmup_steps",
    "weight_decay": "weight_decay",
    "max_grad_norm": "max_grad_norm",
    "beta": "beta",
    "unbiased_kl": "use_bias_correction_kl",
    "loss_type": "loss_type",
    "aggregation": "multi_objective_aggregation",
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
    *("importance_sampling_level", "report_to", "schedule", "lr_scheduler_kwargs", "save"),
    *("vllm_memory", "vllm_length", "vllm_sleeps"),
    *("prompts_per_step", "prompts_per_device", "letter_weight", "format_weight", "precision", "clip_high", "rollouts"),
    *("method", "virft_reward", "rounds", "tuning", "lora_rank", "lora_alpha", "lora_dropout", "freeze", "weights"),
    *("check_every", "check_images", "check_samples", "max_kl", "launcher", "launch_config", "drop_flat_groups"),
    *(
        "system",
        "template_kwargs",
        "vllm_url",
        "model",
        "attention",
        "max_rows",
        "max_tokens",
        "threads",
        "filler",
        "drop",
        "share_prompts",
    ),
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


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_schedule_reaches_trl(tmp_path, schedule):
    result = config(replace(DEFAULTS, schedule=schedule), tmp_path)
    assert result.lr_scheduler_type == schedule and not result.lr_scheduler_kwargs


def test_the_floor_of_the_learning_rate_reaches_trl(tmp_path):
    floor = {"min_lr_rate": 0.1}
    result = config(replace(DEFAULTS, schedule="cosine_with_min_lr", lr_scheduler_kwargs=floor), tmp_path)
    assert result.lr_scheduler_type == "cosine_with_min_lr" and result.lr_scheduler_kwargs == floor


@pytest.mark.parametrize(
    ("schedule", "kwargs", "expected"),
    [
        ("linear", {"min_lr": 1e-6}, "expected none; such as"),
        ("cosine", {"min_lr": 1e-6}, "expected names among num_cycles; such as"),
        ("cosine_with_min_lr", {}, "is empty, and train.schedule cosine_with_min_lr; expected names among min_lr"),
        ("cosine_with_min_lr", {"min_lr": 1e-6, "min_lr_rate": 0.1}, "one of min_lr and min_lr_rate among them"),
    ],
)
def test_settings_that_do_not_fit_the_schedule_are_refused(tmp_path, schedule, kwargs, expected):
    with pytest.raises(UserError, match=expected):
        config(replace(DEFAULTS, schedule=schedule, lr_scheduler_kwargs=kwargs), tmp_path)


def test_the_ratio_of_a_sequence_reaches_trl(tmp_path):
    assert config(DEFAULTS, tmp_path).importance_sampling_level == "token"
    gspo = replace(DEFAULTS, importance_sampling_level="sequence")
    assert config(gspo, tmp_path).importance_sampling_level == "sequence"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss_type": "luspo"}, "luspo is defined for the ratio of a sequence, and train.importance_sampling_level is "
         "token; set `dvc exp run -S train.importance_sampling_level=sequence`"),
        ({"loss_type": "vespo", "importance_sampling_level": "sequence"}, "-S train.importance_sampling_level=token`"),
        ({"loss_type": "cispo"}, "the largest ratio itself, and it is 0.2; expected 1 or more"),
    ],
)  # fmt: skip
def test_settings_of_the_loss_that_contradict_each_other_are_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=re.escape(message)):
        config(replace(DEFAULTS, **changes), tmp_path)


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


def test_vllm_beside_the_trainer_has_limits_of_ours(tmp_path):
    params = replace(DEFAULTS, rollouts="vllm_colocate", vllm_memory=0.25, vllm_length=640, vllm_sleeps=True)
    result = config(params, tmp_path)
    assert (result.use_vllm, result.vllm_mode, result.vllm_enable_sleep_mode) == (True, "colocate", True)
    assert (result.vllm_gpu_memory_utilization, result.vllm_max_model_length) == (0.25, 640)
    assert config(replace(params, loss_type="vespo"), tmp_path).vllm_importance_sampling_mode == "token_truncate"


def test_vllm_as_a_server_has_its_own_limits(tmp_path):
    result = config(replace(DEFAULTS, rollouts="vllm_server", vllm_url="http://gpu2:8000"), tmp_path)
    assert (result.vllm_mode, result.vllm_server_base_url) == ("server", "http://gpu2:8000")
    assert result.vllm_max_model_length is None


def test_the_settings_of_the_chat_template_reach_trl(tmp_path):
    assert config(DEFAULTS, tmp_path).chat_template_kwargs is None
    own = {"enable_thinking": False}
    assert config(replace(DEFAULTS, template_kwargs=own), tmp_path).chat_template_kwargs == own


def test_the_reference_keeps_its_data_type_where_the_policy_is_trained_in_float32(tmp_path, monkeypatch):
    params, reference = replace(DEFAULTS, weights="bfloat16"), {"dtype": "bfloat16", "device_map": None}
    assert config(params, tmp_path).model_init_kwargs is None
    assert config(replace(params, rounds=2), tmp_path).model_init_kwargs == reference
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert config(params, tmp_path).model_init_kwargs == reference


@pytest.mark.parametrize(
    ("prompts", "at_most", "processes", "expected"),
    [
        (16, 4, 1, (4, 4)),
        (16, 4, 2, (4, 2)),
        (16, 4, 4, (4, 1)),
        (16, 4, 8, (2, 1)),
        (6, 2, 3, (2, 1)),  # the paper's run
        (6, 4, 1, (3, 2)),  # 4 does not divide 6
        (6, 2, 2, (1, 3)),
        (6, 2, 6, (1, 1)),
        (7, 3, 1, (1, 7)),
    ],
)
def test_processes_share_the_prompts_of_a_step(monkeypatch, prompts, at_most, processes, expected):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    assert accumulation(replace(DEFAULTS, prompts_per_step=prompts, prompts_per_device=at_most)) == expected


@pytest.mark.parametrize("prompts", [1, 4, 6, 12, 16])
def test_every_number_of_processes_that_divides_a_step_works_and_no_other(monkeypatch, prompts):
    for processes in range(1, 20):
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        for at_most in (1, 2, 5, 16):
            params = replace(DEFAULTS, prompts_per_step=prompts, prompts_per_device=at_most)
            if processes in fitting_processes(prompts):
                at_once, micro_batches = accumulation(params)
                assert at_once * micro_batches * processes == prompts and at_once <= at_most
            else:
                with pytest.raises(UserError):
                    accumulation(params)


@pytest.mark.parametrize(
    ("prompts", "processes", "message"),
    [
        (16, 3, "is 16, which does not divide among 3 processes; set `dvc exp run -S train.prompts_per_step=15` or "
         "`dvc exp run -S train.prompts_per_step=18`, or num_processes in train.launch_config to 1, 2, 4, 8 or 16"),
        (6, 8, "is 6, which does not divide among 8 processes; set `dvc exp run -S train.prompts_per_step=8`, or "
         "num_processes in train.launch_config to 1, 2, 3 or 6"),
        (1, 2, "set `dvc exp run -S train.prompts_per_step=2`, or num_processes in train.launch_config to 1"),
    ],
)  # fmt: skip
def test_prompts_that_do_not_divide_among_the_processes_are_refused(monkeypatch, prompts, processes, message):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    with pytest.raises(UserError, match=re.escape(message)):
        accumulation(replace(DEFAULTS, prompts_per_step=prompts))
