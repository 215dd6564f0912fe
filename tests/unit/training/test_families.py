"""Two steps of GRPO with LoRA on small models of many families, drawn in whatever way each can."""

from dataclasses import replace

import polars as pl
import pytest
import torch
from support.families import noise, tiny_family
from support.training import DEFAULTS, LISTS, question, questions

from pipeline.engines.common.loading import load_model, load_processor
from pipeline.training.checkpoints import RunFolder
from pipeline.training.run import run

pytestmark = pytest.mark.slow

FAMILIES = (
    *("qwen2_5_vl", "qwen3_vl", "qwen3_5", "gemma3", "gemma4", "internvl", "glm46v", "idefics3"),
    *("llava_onevision", "lfm3_vl", "paligemma", "smolvlm"),
)
SETTINGS = replace(
    DEFAULTS,
    tuning="lora",
    steps=2,
    prompts_per_step=2,
    prompts_per_device=2,
    generations=4,
    max_completion_length=8,
    precision="float32",
    weights="float32",
    learning_rate=1e-3,
    beta=0.0,
    warmup_steps=0,
    gradient_checkpointing=False,
)


@pytest.mark.parametrize("name", FAMILIES)
def test_two_steps_change_the_additions(name, tmp_path, monkeypatch):
    folder = tiny_family(tmp_path / "model", name)
    processor, model = load_processor(str(folder)), load_model(str(folder), "float32", "eager")
    pictures = pl.Series("image", [noise(n) for n in range(4)])
    hard = questions(*(question(n % 2, 0, 1, image=f"picture {n}") for n in range(4))).with_columns(pictures)
    # A model of random weights is right by no answer: this reward differs between completions all the same.
    monkeypatch.setattr("pipeline.training.run.rewards", lambda *_: (length_reward, no_reward))
    log = run(hard, LISTS, SETTINGS, model, processor, folder, RunFolder(tmp_path / "run"), None, 2, 0)
    assert [entry["step"] for entry in log.history if "loss" in entry] == [1, 2]
    assert len(log.rollouts) == 2 * 2 * 4
    assert len({row["text"] for row in log.rollouts}) > 4
    additions = [weights for key, weights in model.named_parameters() if "lora_B" in key]
    assert additions and any(torch.count_nonzero(weights) for weights in additions)


def length_reward(completions, **_):
    return [float(len(completion[0]["content"]) % 7) for completion in completions]


def no_reward(completions, **_):
    return [0.0] * len(completions)
