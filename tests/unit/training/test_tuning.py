"""Which weights are trained, and how they are saved."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.training import DEFAULTS

from pipeline.core.params import UserError
from pipeline.engines.common.loading import load_model
from pipeline.training.saving import save_model
from pipeline.training.tuning import adapter, freeze, tower_of, weights_dtype

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "tower"),
    [
        ("model.visual.blocks.0.attn.qkv.weight", "vision"),
        ("model.visual.merger.mlp.0.weight", "vision"),
        ("model.visual.deepstack_merger_list.0.linear_fc1.weight", "vision"),
        ("model.vision_tower.encoder.layers.0.mlp.fc1.weight", "vision"),
        ("model.multi_modal_projector.mm_input_projection_weight", "vision"),
        ("model.connector.modality_projection.proj.weight", "vision"),
        ("model.audio_tower.layers.0.self_attn.q_proj.linear.weight", "audio"),
        ("model.embed_audio.embedding_projection.weight", "audio"),
        ("model.language_model.layers.0.mlp.up_proj.weight", "text"),
        ("lm_head.weight", "text"),
    ],
)
def test_the_tower_by_the_name_of_a_parameter(name, tower):
    assert tower_of(name) == tower


def test_an_unknown_tower_is_refused():
    with pytest.raises(UserError, match=r"train\.freeze has 'audio'; each entry must be one of vision, text"):
        freeze(torch.nn.Linear(1, 1), ("audio",))


@pytest.mark.parametrize(
    ("towers", "trainable"),
    [
        ((), {"vision", "text"}),
        (("vision",), {"text"}),
        (("text",), {"vision"}),
    ],
)
def test_towers_are_frozen(base_model, towers, trainable):
    model = load_model(base_model, "float32", "eager")
    freeze(model, towers)
    assert {tower_of(name) for name, weights in model.named_parameters() if weights.requires_grad} == trainable
    merger = [weights.requires_grad for name, weights in model.named_parameters() if ".merger." in name]
    assert merger and set(merger) == {"vision" not in towers}, "as in the published code"


@pytest.mark.parametrize(
    ("fsdp", "tuning", "rounds", "dtype"),
    [
        ("false", "full", 1, "bfloat16"),
        ("true", "full", 1, "float32"),
        ("false", "full", 2, "float32"),
        ("true", "lora", 2, "bfloat16"),
    ],
)
def test_weights_whose_masters_the_optimiser_does_not_keep_are_float32(monkeypatch, fsdp, tuning, rounds, dtype):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", fsdp)
    params = replace(DEFAULTS, weights="bfloat16", tuning=tuning, rounds=rounds)
    assert weights_dtype(params) == dtype
    assert weights_dtype(replace(params, weights="float32")) == "float32"


def test_low_rank_additions_are_put_on_the_towers_that_are_not_frozen(base_model):
    model = load_model(base_model, "float32", "eager")
    assert adapter(model, DEFAULTS) is None
    config = adapter(
        model, replace(DEFAULTS, tuning="lora", lora_rank=4, lora_alpha=12, lora_dropout=0.25, freeze=("vision",))
    )
    assert (config.r, config.lora_alpha, config.lora_dropout) == (4, 12, 0.25)
    assert {tower_of(f"{name}.weight") for name in config.target_modules} == {"text"}
    assert not any("lm_head" in name for name in config.target_modules)
    everywhere = adapter(model, replace(DEFAULTS, tuning="lora"))
    assert {tower_of(f"{name}.weight") for name in everywhere.target_modules} == {"vision", "text"}
    assert any(".merger." in name for name in everywhere.target_modules)
    text_frozen = adapter(model, replace(DEFAULTS, tuning="lora", freeze=("text",)))
    assert set(text_frozen.target_modules) == set(everywhere.target_modules) - set(config.target_modules)


def test_saving_low_rank_additions_leaves_the_weights_as_they_are(base_model, tmp_path):
    """Merging in place and undoing it would not, in 16 bits."""
    from peft import get_peft_model

    model = load_model(base_model, "bfloat16", "eager")
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    policy = get_peft_model(model, adapter(model, replace(DEFAULTS, tuning="lora", lora_rank=4)))
    torch.manual_seed(0)
    for name, weights in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.02)
    save_model(policy, Path(base_model), tmp_path)
    after = {name.replace(".base_layer", ""): weights for name, weights in model.state_dict().items()}
    assert all(torch.equal(after[name], weights) for name, weights in before.items())
    result = load_model(str(tmp_path), "bfloat16", "eager").state_dict()
    assert result.keys() == before.keys()
    name = "model.visual.blocks.0.attn.qkv"
    delta = model.get_submodule(name).get_delta_weight("default").float()
    assert delta.abs().max() > 1e-3
    assert torch.equal(result[f"{name}.weight"], (before[f"{name}.weight"].float() + delta).bfloat16())
