"""Two steps with every loss that TRL offers, of a batch that is used twice, and rewards that are normalised apart."""

import re
from dataclasses import replace

import polars as pl
import pytest
import torch
from support.families import noise
from support.training import DEFAULTS, LISTS, question, questions
from trl import GRPOConfig

from pipeline.engines.common.loading import load_model, load_processor
from pipeline.training.checkpoints import RunFolder
from pipeline.training.params import LOSSES
from pipeline.training.run import run

pytestmark = pytest.mark.slow

SETTINGS = replace(
    DEFAULTS, steps=2, prompts_per_step=2, prompts_per_device=2, generations=4, max_completion_length=6,
    updates_per_batch=2, learning_rate=1e-3, warmup_steps=0, beta=0.0, threads=1,
)  # fmt: skip
LOSS_SETTINGS = {
    "luspo": {"importance_sampling_level": "sequence"},
    "cispo": {"clip_high": 5.0},
}


def two_steps(folder, base_model, monkeypatch, **changes):
    """The log of two steps with these settings, and the weights that they end with."""
    processor, model = load_processor(base_model), load_model(base_model, "float32", "eager")
    pictures = pl.Series("image", [noise(n) for n in range(2)])
    hard = questions(*(question(n, 0, 1, image=f"picture {n}") for n in range(2))).with_columns(pictures)
    # Noise has no right answer: these rewards differ between completions all the same.
    monkeypatch.setattr("pipeline.training.run.rewards", lambda *_: (length_reward, letter_reward))
    params = replace(SETTINGS, **changes)
    log = run(hard, LISTS, params, model, processor, folder, RunFolder(folder / "run"), None, 2, 0)
    return log, {name: weights.detach().clone() for name, weights in model.named_parameters()}


def length_reward(completions, **_):
    return [float(len(completion[0]["content"]) % 7) for completion in completions]


def letter_reward(completions, **_):
    return [float("a" in completion[0]["content"]) for completion in completions]


def test_the_losses_are_all_that_trl_documents():
    text = GRPOConfig.__dataclass_fields__["loss_type"].metadata["help"]
    assert set(re.findall(r"'(\w+)'", text)) - {"sequence"} == set(LOSSES)


@pytest.mark.parametrize("loss", LOSSES)
def test_two_steps_with_every_loss(loss, base_model, tmp_path, monkeypatch):
    log, weights = two_steps(tmp_path, base_model, monkeypatch, loss_type=loss, **LOSS_SETTINGS.get(loss, {}))
    assert [entry["step"] for entry in log.history if "loss" in entry] == [1, 2]
    start = dict(load_model(base_model, "float32", "eager").named_parameters())
    assert all(torch.isfinite(of).all() for of in weights.values())
    assert any((of - start[name]).abs().max() > 1e-4 for name, of in weights.items())


def test_the_ratio_of_a_sequence_gives_other_second_steps_than_that_of_a_token(base_model, tmp_path, monkeypatch):
    results = [
        two_steps(tmp_path / level, base_model, monkeypatch, importance_sampling_level=level)[1]
        for level in ("token", "sequence")
    ]
    assert any((of - results[1][name]).abs().max() > 1e-6 for name, of in results[0].items())


@pytest.mark.parametrize("drop", [False, True])
def test_rewards_that_are_normalised_apart_weigh_the_same(drop, base_model, tmp_path, monkeypatch):
    apart = {"aggregation": "normalize_then_sum", "drop_flat_groups": drop}
    log, _ = two_steps(tmp_path, base_model, monkeypatch, **apart)
    table = pl.DataFrame(log.rollouts).filter(step=1)

    def normalised(name):
        return (pl.col(name) - pl.col(name).mean()) / (pl.col(name).std() + 1e-4)

    total = table.with_columns(
        (normalised("answer_reward") + normalised("format_reward")).over("image_id").alias("total")
    )
    expected = total.select(normalised("total")).to_series().to_list()
    assert table["advantage"].to_list() == pytest.approx(expected, abs=1e-4)
