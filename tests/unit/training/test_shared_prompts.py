"""A pass whose completions share their prompt gives TRL's own loss, log-probabilities, entropies, KL and gradients."""

from contextlib import nullcontext
from dataclasses import replace

import polars as pl
import pytest
import torch
from support.families import noise, tiny_family
from support.tiny_models import tiny_model
from support.training import DEFAULTS, LISTS, question, questions

from pipeline.engines.common.loading import load_model, load_processor
from pipeline.training.checkpoints import RunFolder
from pipeline.training.examples import examples
from pipeline.training.rollouts import Rollouts
from pipeline.training.run import policy_trainer
from pipeline.training.trl_adapter import set_reference
from pipeline.training.tuning import freeze

pytestmark = pytest.mark.slow

FAMILIES = ("qwen2_5_vl", "qwen3_vl", "gemma3")
GENERATIONS, LENGTH = 4, 8
SETTINGS = replace(
    DEFAULTS,
    steps=2,
    prompts_per_step=3,
    prompts_per_device=3,
    generations=GENERATIONS,
    max_completion_length=LENGTH,
    learning_rate=1e-3,
    warmup_steps=0,
    threads=1,
)


def model_folder(name, folder):
    # This Gemma has layers whose window is shorter than the prompts.
    return tiny_model(folder, name) if name == "gemma3" else tiny_family(folder, name)


def trainer_of(folder, scratch, settings):
    processor, model = load_processor(str(folder)), load_model(str(folder), "float32", "sdpa")
    set_reference(model, str(folder))
    freeze(model, settings.freeze)
    # Prompts of several lengths, since they have two to four options.
    rows = questions(*(question(n % 2, *range(2 + n % 2), image=f"picture {n}") for n in range(4)))
    rows = rows.with_columns(pl.Series("image", [noise(n) for n in range(4)]))
    return policy_trainer(
        examples(rows, LISTS, settings),
        settings,
        model,
        processor,
        RunFolder(scratch),
        2,
        0,
        [letters_reward, no_reward],
        Rollouts(("letters_reward", "no_reward")),
    )


def letters_reward(completions, **_):
    return [float(len(completion[0]["content"]) % 7) for completion in completions]


def no_reward(completions, **_):
    return [0.0] * len(completions)


def batch_of(trainer):
    """A step's inputs of three groups: completions of many lengths, one without a token that counts."""
    rows = [trainer.train_dataset[place] for place in range(3) for _ in range(GENERATIONS)]
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1  # which `train` sets
    batch = trainer._generate_and_score_completions(rows)
    lengths = torch.tensor([5, 1, 8, 0, 2, 8, 3, 3, 7, 8, 1, 4])
    batch["completion_mask"] = (torch.arange(batch["completion_ids"].shape[1]) < lengths[:, None]).long()
    generator = torch.Generator().manual_seed(1)
    batch["advantages"] = torch.randn(len(lengths), generator=generator)
    with torch.no_grad():  # away from the reference, so that there is a KL term
        for weights in trainer.model.parameters():
            if weights.requires_grad:
                weights += 0.01 * torch.randn(weights.shape, generator=generator)
    return batch


def results(trainer, batch, shared):
    """Loss, entropy, KL, log-probabilities of the reference, and every gradient."""
    trainer.sharing.outcome = shared
    trainer._metrics["train"].clear()
    trainer.model.zero_grad()
    pictures = {name: batch[name] for name in PICTURES if name in batch}
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    keep = batch["completion_ids"].shape[1]
    score = trainer._get_per_token_logps_and_entropies
    with torch.no_grad():
        with nullcontext() if trainer.ref_model else trainer.model.disable_adapter():
            log_probs = score(trainer.ref_model or trainer.model, ids, mask, keep, **pictures)[0]
        entropies = score(trainer.model, ids, mask, keep, compute_entropy=True, **pictures)[1]
    with trainer._until_gradients:
        loss = trainer.compute_loss(trainer.model, {**batch, "ref_per_token_logps": log_probs})
        loss.backward()
    named = trainer.model.named_parameters()
    return {
        "loss": loss.detach(),
        "kl": torch.tensor(trainer._metrics["train"]["kl"]),
        "reference": log_probs,
        "entropies": entropies,
        **{name: weights.grad for name, weights in named if weights.grad is not None},
    }


PICTURES = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "mm_token_type_ids",
    "token_type_ids",
    "pixel_attention_mask",
)


def assert_equal(trainer, tolerance):
    batch = batch_of(trainer)
    expected, found = (results(trainer, batch, shared) for shared in (False, True))
    assert expected.keys() == found.keys() and len(found) > 10
    assert expected["kl"].abs() > 1e-6 and expected["loss"].abs() > 1e-6
    # A gradient that is zero by symmetry, as that of a key's bias, is rounding alone: the scale is that of all.
    scale = max(grad.abs().max() for name, grad in expected.items() if "." in name)
    for name, value in expected.items():
        limit = tolerance * torch.maximum(value.abs().max(), scale if "." in name else torch.tensor(1.0))
        assert (found[name] - value).abs().max() <= limit, name


@pytest.fixture(params=FAMILIES)
def folder(request, tmp_path):
    return model_folder(request.param, tmp_path / "model")


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="all weights"),
        pytest.param({"tuning": "lora", "lora_rank": 4}, id="lora"),
        pytest.param({"freeze": ("vision",)}, id="frozen tower"),
    ],
)
def test_the_shared_pass_is_trls_own_in_single_precision(folder, settings, tmp_path):
    assert_equal(trainer_of(folder, tmp_path / "run", replace(SETTINGS, **settings)), 1e-5)


def test_the_shared_pass_is_trls_own_with_gradient_checkpointing(folder, tmp_path):
    trainer = trainer_of(folder, tmp_path / "run", replace(SETTINGS, gradient_checkpointing=True))
    trainer.model.gradient_checkpointing_enable()
    assert_equal(trainer, 1e-5)


def test_the_shared_pass_is_trls_own_in_double_precision(folder, tmp_path, monkeypatch):
    trainer = trainer_of(folder, tmp_path / "run", SETTINGS)
    trainer.model.double(), trainer.ref_model.double()
    # What the layers compute in float32, by name, they compute in float64 as well.
    monkeypatch.setattr(torch, "float32", torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    assert_equal(trainer, 1e-10)


@pytest.mark.parametrize(
    "settings", [{"prompts_per_device": 1}, {"updates_per_batch": 2}], ids=("accumulation", "old policy")
)
def test_a_run_logs_what_it_logs_with_trls_own_pass(settings, tmp_path):
    folder, logs = tiny_family(tmp_path / "model", "qwen2_5_vl"), []
    for shared in (True, False):
        # A small rate, since Adam's first step magnifies the rounding of gradients near zero.
        all_settings = replace(SETTINGS, share_prompts=shared, learning_rate=1e-5, **settings)
        trainer = trainer_of(folder, tmp_path / str(shared), all_settings)
        trainer.train()
        assert trainer.sharing.outcome is shared
        logs.append([entry for entry in trainer.state.log_history if "loss" in entry])
    assert [entry["step"] for entry in logs[0]] == [1, 2]
    for name in ("loss", "grad_norm", "kl", "entropy", "clip_ratio/region_mean"):
        for shared, repeated in zip(*logs, strict=True):
            assert shared[name] == pytest.approx(repeated[name], rel=1e-3, abs=1e-6), name


def test_a_family_that_cannot_share_says_so_once_and_trains(tmp_path):
    trainer = trainer_of(tiny_family(tmp_path / "model", "qwen3_5"), tmp_path / "run", SETTINGS)
    with pytest.warns(UserWarning, match="train.share_prompts: .*linear_attention cannot share a prompt") as record:
        trainer.train()
    assert sum("share_prompts" in str(warning.message) for warning in record) == 1
    assert trainer.state.global_step == 2


def test_a_pass_that_differs_is_not_used(tmp_path, monkeypatch):
    trainer = trainer_of(tiny_family(tmp_path / "model", "qwen2_5_vl"), tmp_path / "run", SETTINGS)
    score = trainer._score_groups
    monkeypatch.setattr(trainer, "_score_groups", lambda *args: (score(*args)[0] + 0.01, None))
    with pytest.warns(UserWarning, match="differ by 0.01 nats on average; every completion reads its own prompt"):
        trainer.train()
    assert trainer.sharing.outcome is False
