"""Train the model with GRPO to choose the right option of its own hard questions.

Departures from the paper:
1. The letter is read by the strict parser of pipeline/answers.py, in training as in evaluation.
2. No setting that matters is left to a library default: params.yaml writes them out.
"""

import csv
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from pipeline import gate, params, tables
from pipeline.cli import run
from pipeline.files import whole_folder, write_text
from pipeline.params import UserError
from pipeline.prompts import STYLES, choice_question

CURVES = {
    "step": "step",
    "rewards/letter_reward/mean": "letter_reward",
    "rewards/format_reward/mean": "format_reward",
    "frac_reward_zero_std": "share_of_groups_without_variance",
    "entropy": "entropy",
    "kl": "kl",
    "completions/mean_length": "completion_length",
    "grad_norm": "gradient_norm",
    "learning_rate": "learning_rate",
}
"""TRL's names of what it logs, and ours."""


@dataclass(frozen=True)
class TrainParams:
    model: str = params.key("model")
    seed: int = params.key("seed", at_least=0, at_most=params.LARGEST_SEED)
    prompt: str = params.key("prompt", one_of=tuple(STYLES))
    attention: str = params.key("engine.attention", one_of=("eager", "sdpa", "flash_attention_2"))
    threads: int = params.key("engine.threads", at_least=0)
    steps: int = params.key("train.steps", at_least=1)
    prompts_per_step: int = params.key("train.prompts_per_step", at_least=1)
    generations: int = params.key("train.generations", at_least=2)
    prompts_per_device: int = params.key("train.prompts_per_device", at_least=1)
    learning_rate: float = params.key("train.learning_rate", above=0)
    schedule: str = params.key("train.schedule", one_of=("constant", "linear", "cosine"))
    warmup_steps: int = params.key("train.warmup_steps", at_least=0)
    weight_decay: float = params.key("train.weight_decay", at_least=0)
    max_grad_norm: float = params.key("train.max_grad_norm", above=0)
    beta: float = params.key("train.beta", at_least=0)
    unbiased_kl: bool = params.key("train.unbiased_kl")
    loss_type: str = params.key("train.loss_type", one_of=("grpo", "bnpo", "dr_grpo", "dapo"))
    scale_rewards: str = params.key("train.scale_rewards", one_of=("group", "batch", "none"))
    updates_per_batch: int = params.key("train.updates_per_batch", at_least=1)
    clip: float = params.key("train.clip", above=0)
    temperature: float = params.key("train.temperature", above=0)
    top_p: float = params.key("train.top_p", above=0, at_most=1)
    top_k: int = params.key("train.top_k", at_least=0)
    repetition_penalty: float = params.key("train.repetition_penalty", above=0)
    max_completion_length: int = params.key("train.max_completion_length", at_least=1)
    letter_weight: float = params.key("train.letter_weight", at_least=0)
    format_weight: float = params.key("train.format_weight", at_least=0)
    precision: str = params.key("train.precision", one_of=("float32", "bfloat16"))
    gradient_checkpointing: bool = params.key("train.gradient_checkpointing")
    hash_distance: int = params.key("gate.hash_distance", at_least=-1, at_most=gate.HASH_BITS)


def pictured(hard: pl.DataFrame, images: pl.DataFrame, classes: pl.DataFrame) -> pl.DataFrame:
    """The questions with their pictures and nouns."""
    nouns = classes.select("dataset", "noun").unique(maintain_order=True)
    pictures = images.select("image_id", "image")
    return hard.join(pictures, on="image_id", maintain_order="left").join(nouns, on="dataset", maintain_order="left")


def dataset(rows: pl.DataFrame, wanted: TrainParams) -> Any:
    """The questions, with their pictures, as TRL reads them: prompt, image, and what the rewards need."""
    import datasets

    from pipeline.pictures import picture

    names = [[option["name"] for option in options] for options in rows["options"]]
    questions = [
        choice_question(wanted.prompt, noun, offered) for noun, offered in zip(rows["noun"], names, strict=True)
    ]
    return datasets.Dataset.from_dict(
        {
            # TRL places the image itself, in front of the text, where the content is plain text.
            "prompt": [[{"role": "user", "content": question}] for question in questions],
            "image": [picture(image) for image in rows["image"]],
            "answer": rows["answer"].to_list(),
            "options": names,
            "image_id": rows["image_id"].to_list(),
        }
    )


def config(wanted: TrainParams, folder: str) -> Any:
    """TRL's settings. TRL counts completions where params.yaml counts prompts."""
    import torch
    from trl import GRPOConfig

    on_cpu = not torch.cuda.is_available()
    per_device = min(wanted.prompts_per_device, wanted.prompts_per_step)
    if wanted.prompts_per_step % per_device:
        raise UserError(
            f"params.yaml: train.prompts_per_step is {wanted.prompts_per_step}, wanted a multiple of "
            f"train.prompts_per_device = {per_device}; set it with `dvc exp run -S train.prompts_per_step=…`"
        )
    return GRPOConfig(
        output_dir=folder,
        use_cpu=on_cpu,
        bf16=wanted.precision == "bfloat16",
        # Both names: TRL has a default of its own for the old one.
        gradient_checkpointing=wanted.gradient_checkpointing,
        activation_checkpointing=wanted.gradient_checkpointing,
        max_steps=wanted.steps,
        per_device_train_batch_size=per_device * wanted.generations,
        gradient_accumulation_steps=wanted.prompts_per_step // per_device,
        num_generations=wanted.generations,
        num_iterations=wanted.updates_per_batch,
        learning_rate=wanted.learning_rate,
        lr_scheduler_type=wanted.schedule,
        warmup_steps=wanted.warmup_steps,
        weight_decay=wanted.weight_decay,
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        optim="adamw_torch",
        max_grad_norm=wanted.max_grad_norm,
        beta=wanted.beta,
        use_bias_correction_kl=wanted.unbiased_kl,
        sync_ref_model=False,
        entropy_coef=0.0,
        use_adaptive_entropy=False,
        top_entropy_quantile=1.0,
        loss_type=wanted.loss_type,
        scale_rewards=wanted.scale_rewards,
        multi_objective_aggregation="sum_then_normalize",
        importance_sampling_level="token",
        epsilon=wanted.clip,
        epsilon_high=wanted.clip,
        delta=None,
        off_policy_mask_threshold=None,
        reward_weights=[wanted.letter_weight, wanted.format_weight],
        max_completion_length=wanted.max_completion_length,
        mask_truncated_completions=False,
        temperature=wanted.temperature,
        top_p=wanted.top_p,
        top_k=wanted.top_k,
        min_p=None,
        repetition_penalty=wanted.repetition_penalty,
        use_vllm=False,
        disable_dropout=True,
        shuffle_dataset=True,
        remove_unused_columns=False,
        pad_to_multiple_of=None,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        seed=wanted.seed,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        log_completions=False,
    )


def curves(history: list[dict[str, Any]]) -> str:
    """What TRL logged, one CSV line per optimiser step."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CURVES.values())
    for entry in history:
        if "rewards/letter_reward/mean" in entry:
            writer.writerow([_rounded(entry.get(name)) for name in CURVES])
    return out.getvalue()


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def train(rows: pl.DataFrame, wanted: TrainParams) -> tuple[Any, Any, list[dict[str, Any]]]:
    """Trained model, its processor, and the log history. Raises UserError where there are too few questions."""
    if rows.height < wanted.prompts_per_step:
        raise UserError(
            f"data/hard.parquet: {rows.height} questions, wanted at least train.prompts_per_step = "
            f"{wanted.prompts_per_step}; lower it with `dvc exp run -S train.prompts_per_step={rows.height}`"
        )
    import torch
    from trl import GRPOTrainer

    from pipeline.loading import load_model, load_processor
    from pipeline.rewards import REWARDS

    if wanted.threads:
        torch.set_num_threads(wanted.threads)
    processor = load_processor(wanted.model)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = GRPOTrainer(
            model=load_model(wanted.model, "float32", wanted.attention),
            reward_funcs=list(REWARDS),
            args=config(wanted, scratch),
            train_dataset=dataset(rows, wanted),
            processing_class=processor,
        )
        trainer.train()
    return trainer.model, processor, trainer.state.log_history


def main(
    hard: Annotated[Path, typer.Option(help="Table of hard questions.")] = Path("data/hard.parquet"),
    images: Annotated[Path, typer.Option(help="Table of images.")] = Path("data/images.parquet"),
    classes: Annotated[Path, typer.Option(help="Table of classes.")] = Path("data/classes.parquet"),
    policy: Annotated[Path, typer.Option(help="Model folder to write.")] = Path("models/policy"),
    log: Annotated[Path, typer.Option(help="CSV of the training curves to write.")] = Path("data/training.csv"),
) -> None:
    """Train the model with GRPO to choose the right option of its own hard questions."""
    wanted = params.load(TrainParams)
    questions = tables.read(tables.HARD, hard)
    class_rows = tables.read(tables.CLASSES, classes)
    index = tables.read(tables.IMAGES, images, gate.COLUMNS)
    gate.require_apart(index, wanted.hash_distance)
    gate.require_base_only(questions, class_rows)
    gate.require_training_images(questions, index)
    asked = pl.col("image_id").is_in(questions["image_id"].implode())
    rows = pictured(questions, tables.read(tables.IMAGES, images, ["image_id", "image"], asked), class_rows)
    model, processor, history = train(rows, wanted)
    write_text(log, curves(history))
    with whole_folder(policy) as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    rewards = [entry["rewards/letter_reward/mean"] for entry in history if "rewards/letter_reward/mean" in entry]
    print(
        f"{wanted.steps} steps of {wanted.prompts_per_step} prompts × {wanted.generations} completions; "
        f"letter reward {rewards[0]:.2f} at the first step, {rewards[-1]:.2f} at the last"
    )


if __name__ == "__main__":
    run(main)
