"""The settings of training."""

from dataclasses import dataclass

from pipeline.core.params import MOST_DRAWS, Scalars, key
from pipeline.method.chat import ChatParams
from pipeline.method.hard_filter import RULES
from pipeline.method.rewards import VIRFT_REWARDS
from pipeline.method.two_steps import TwoStepParams

METHODS = ("divek", "virft", "sft", "none")
ROLLOUTS = ("engine", "generate", "vllm_server", "vllm_colocate")
TOWERS = ("vision", "text")
SCHEDULES = {
    "constant": set[str](),
    "linear": set[str](),
    "cosine": {"num_cycles"},
    "cosine_with_min_lr": {"num_cycles", "min_lr", "min_lr_rate"},
}
"""The names of train.lr_scheduler_kwargs that each schedule takes."""

LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo")
"""All that TRL offers, under its names."""


@dataclass(frozen=True)
class TrainParams(TwoStepParams, ChatParams):
    """Of training. Those of the two steps are for the checks on validation images and for further rounds."""

    model: str = key("model")
    attention: str = key("engine.attention", one_of=("eager", "sdpa", "flash_attention_2"))
    max_rows: int = key("engine.max_rows", at_least=1)
    max_tokens: int = key("engine.max_tokens", at_least=1)
    threads: int = key("engine.threads", at_least=0)
    filler: int = key("options.filler", at_least=0)
    drop: str = key("filter.drop", one_of=tuple(RULES))
    method: str = key("train.method", one_of=METHODS)
    virft_reward: str = key("train.virft_reward", one_of=VIRFT_REWARDS)
    steps: int = key("train.steps", at_least=1)
    rounds: int = key("train.rounds", at_least=1)
    prompts_per_step: int = key("train.prompts_per_step", at_least=1)
    generations: int = key("train.generations", at_least=2, at_most=MOST_DRAWS)
    prompts_per_device: int = key("train.prompts_per_device", at_least=1)
    learning_rate: float = key("train.learning_rate", above=0)
    schedule: str = key("train.schedule", one_of=tuple(SCHEDULES))
    lr_scheduler_kwargs: Scalars = key("train.lr_scheduler_kwargs")
    warmup_steps: int = key("train.warmup_steps", at_least=0)
    weight_decay: float = key("train.weight_decay", at_least=0)
    max_grad_norm: float = key("train.max_grad_norm", above=0)
    beta: float = key("train.beta", at_least=0)
    unbiased_kl: bool = key("train.unbiased_kl")
    loss_type: str = key("train.loss_type", one_of=LOSSES)
    importance_sampling_level: str = key("train.importance_sampling_level", one_of=("token", "sequence"))
    scale_rewards: str = key("train.scale_rewards", one_of=("group", "batch", "none"))
    aggregation: str = key("train.multi_objective_aggregation", one_of=("sum_then_normalize", "normalize_then_sum"))
    updates_per_batch: int = key("train.updates_per_batch", at_least=1)
    clip: float = key("train.clip", above=0)
    clip_high: float = key("train.clip_high", at_least=0)
    drop_flat_groups: bool = key("train.drop_flat_groups")
    drop_truncated: bool = key("train.drop_truncated")
    rollouts: str = key("train.rollouts", one_of=ROLLOUTS)
    vllm_url: str = key("train.vllm_url")
    vllm_memory: float = key("train.vllm_gpu_memory_utilization", above=0, at_most=1)
    vllm_length: int = key("train.vllm_max_model_length", at_least=0)
    vllm_sleeps: bool = key("train.vllm_enable_sleep_mode")
    rollout_temperature: float = key("train.temperature", above=0)
    rollout_top_p: float = key("train.top_p", above=0, at_most=1)
    rollout_top_k: int = key("train.top_k", at_least=0)
    rollout_repetition_penalty: float = key("train.repetition_penalty", above=0)
    max_completion_length: int = key("train.max_completion_length", at_least=1)
    letter_weight: float = key("train.letter_weight", at_least=0)
    format_weight: float = key("train.format_weight", at_least=0)
    tuning: str = key("train.tuning", one_of=("full", "lora"))
    lora_rank: int = key("train.lora_rank", at_least=1)
    lora_alpha: int = key("train.lora_alpha", at_least=1)
    lora_dropout: float = key("train.lora_dropout", at_least=0, at_most=1)
    freeze: tuple[str, ...] = key("train.freeze")
    save: str = key("train.save", one_of=("merged", "adapter"))
    weights: str = key("train.weights", one_of=("float32", "bfloat16", "nf4"))
    precision: str = key("train.precision", one_of=("float32", "bfloat16", "auto"))
    share_prompts: bool = key("train.share_prompts")
    gradient_checkpointing: bool = key("train.gradient_checkpointing")
    check_every: int = key("train.check_every", at_least=1)
    check_images: int = key("train.check_images", at_least=0)
    check_samples: int = key("train.check_samples", at_least=1, at_most=MOST_DRAWS)
    report_to: tuple[str, ...] = key("train.report_to")
    max_kl: float = key("train.max_kl", above=0)
    launcher: str = key("train.launcher", one_of=("none", "accelerate"))
    launch_config: str = key("train.launch_config", or_empty=True)
