"""Weights of 16 bits learn at the rates of the presets, and an interruption loses nothing of their masters."""

from dataclasses import fields, replace
from types import SimpleNamespace

import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file
from support.project import ROOT
from support.training import DEFAULTS, question, questions

from pipeline.engines.common.loading import load_model, load_processor
from pipeline.method.class_lists import ClassLists
from pipeline.training.checkpoints import RunFolder
from pipeline.training.masters import MasterAdamW, needs_masters
from pipeline.training.params import TrainParams
from pipeline.training.rounds import train_round
from pipeline.training.run import supervised_trainer
from pipeline.training.saving import save_model
from pipeline.training.tuning import freeze

pytestmark = pytest.mark.slow

SPREAD = 0.02  # standard deviation of the weights, as in a model of billions
SIGNAL = 0.2  # of the mean of a weight's gradient over all steps, in standard deviations of its noise


def preset(name):
    """The settings of training of a preset, what it leaves out from the paper's. The gradients here are synthetic."""
    values = {}
    for file in ("paper", name):
        values |= YAML(typ="safe").load((ROOT / "presets" / f"{file}.yaml").read_text(encoding="utf-8"))["train"]
    keys = {field.metadata["key"].removeprefix("train."): field.name for field in fields(TrainParams)}
    given = {keys[key]: tuple(value) if key == "freeze" else value for key, value in values.items()}
    return replace(DEFAULTS, **given | {"method": "sft", "precision": "float32", "gradient_checkpointing": False})


def tiny_model(folder, dtype):
    """A Qwen2.5-VL of 82,000 weights of this spread; as float32 it has the same ones."""
    from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

    config = AutoConfig.from_pretrained(folder)
    for tower in (config.text_config, config.vision_config):
        tower.update({"hidden_size": 32, "intermediate_size": 64})
    config.text_config.update({"num_hidden_layers": 1, "layer_types": ["full_attention"]})
    config.text_config.update({"num_attention_heads": 1, "num_key_value_heads": 1})
    config.vision_config.update({"depth": 1, "num_heads": 1, "out_hidden_size": 32})
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config)
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=SPREAD)
    return model.bfloat16().to(getattr(torch, dtype))


def flat(tensors):
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])


def cosine(first, second):
    return torch.nn.functional.cosine_similarity(first, second, dim=0).item()


def share(update):
    """Of the weights that move."""
    return (update != 0).double().mean().item()


def updates(params, folder, base_model):
    """What all steps of the trainer's optimiser add to the trainable weights, and to their masters."""
    from datasets import Dataset

    torch.manual_seed(0)
    model = tiny_model(base_model, params.weights)
    freeze(model, params.freeze)
    rows = Dataset.from_list([{"prompt": "a", "completion": "b"}] * params.prompts_per_step)
    processor = load_processor(base_model)
    trainer = supervised_trainer(rows, params, model, processor, RunFolder(folder), params.steps, before=0)
    weights = [weights for weights in trainer.model.parameters() if weights.requires_grad]
    first = flat(weights)
    optimizer = trainer.create_optimizer()
    scheduler = trainer.create_scheduler(params.steps, optimizer)
    generator = torch.Generator().manual_seed(1)
    means = [SIGNAL * torch.randn(of.shape, generator=generator) for of in weights]
    for _ in range(params.steps):
        for of, mean in zip(weights, means, strict=True):
            of.grad = (mean + torch.randn(of.shape, generator=generator)).to(of.dtype)
        torch.nn.utils.clip_grad_norm_(weights, params.max_grad_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    masters = dict(optimizer.pairs) if isinstance(optimizer, MasterAdamW) else {of: of for of in weights}
    return flat(weights) - first, flat(masters[of] for of in weights) - first


def test_all_weights_in_bfloat16_learn_at_the_papers_settings_as_in_float32(base_model, tmp_path, monkeypatch):
    params = preset("paper")
    assert (params.tuning, params.weights, params.learning_rate, params.steps) == ("full", "bfloat16", 1e-6, 400)
    expected, _ = updates(replace(params, weights="float32"), tmp_path, base_model)
    result, masters = updates(params, tmp_path, base_model)
    assert share(masters) > 0.99 and cosine(masters, expected) > 0.99
    # The saved weights are rounded: an update of .3 to .6 units in the last place moves two in five of them.
    assert share(result) > 0.35 and cosine(result, expected) > 0.75
    monkeypatch.setattr("pipeline.training.trl_adapter.needs_masters", lambda trainer: False)
    without, _ = updates(params, tmp_path, base_model)
    assert share(without) < 0.03 and cosine(without, expected) < 0.15, "torch's AdamW on the weights themselves"


def test_low_rank_additions_to_weights_in_bfloat16_are_float32(base_model, tmp_path):
    params = preset("qwen2.5-vl-7b")
    assert (params.tuning, params.weights, params.learning_rate) == ("lora", "bfloat16", 1e-5)
    expected, _ = updates(replace(params, weights="float32"), tmp_path, base_model)
    result, _ = updates(params, tmp_path, base_model)
    assert share(result) > 0.99 and cosine(result, expected) > 0.99


def test_float32_weights_are_stepped_as_by_torch_and_16_bits_are_their_masters_rounded():
    torch.manual_seed(0)
    start, gradients = torch.randn(5, 3), torch.randn(20, 5, 3).bfloat16()
    plain, own, rounded = (torch.nn.Parameter(start.bfloat16().float()) for _ in range(3))
    rounded.data = rounded.data.bfloat16()
    reference = torch.optim.AdamW([plain], lr=1e-4, weight_decay=0.1)
    optimizer = MasterAdamW([{"params": [own]}, {"params": [rounded]}], lr=1e-4, weight_decay=0.1)
    for gradient in gradients:
        plain.grad, own.grad, rounded.grad = gradient.float(), gradient.float(), gradient.clone()
        reference.step()
        optimizer.step()
    masters = dict(optimizer.pairs)
    assert torch.equal(own, plain) and own.data_ptr() == masters[own].data_ptr()
    assert torch.equal(masters[rounded], plain) and torch.equal(rounded, plain.bfloat16())
    optimizer.zero_grad()
    assert own.grad is None and rounded.grad is None and masters[rounded].grad is None


def test_many_weights_are_stepped_in_chunks_each_once(monkeypatch):
    torch.manual_seed(0)
    results = []
    for chunk in (1, 2**28):
        monkeypatch.setattr("pipeline.training.masters.CHUNK", chunk)
        weights = [torch.nn.Parameter(torch.full((4,), float(number)).bfloat16()) for number in range(1, 5)]
        optimizer = MasterAdamW([{"params": weights}], lr=1e-3)
        for of in weights[1:]:  # the first has no gradient
            of.grad = torch.ones_like(of)
        optimizer.step()
        results.append([master.clone() for _, master in optimizer.pairs])
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))
    assert [(of - number).abs().max().item() > 5e-4 for number, of in enumerate(results[0], 1)] == [0, 1, 1, 1]


def test_engines_that_shard_keep_masters_themselves():
    model = torch.nn.Linear(2, 2).bfloat16()
    trainer = SimpleNamespace(model=model, is_fsdp_enabled=False, is_deepspeed_enabled=False)
    assert needs_masters(trainer)
    trainer.is_fsdp_enabled = True
    assert not needs_masters(trainer)
    trainer.is_fsdp_enabled, trainer.is_deepspeed_enabled = False, True
    assert not needs_masters(trainer)
    trainer.is_deepspeed_enabled = False
    assert not needs_masters(SimpleNamespace(**vars(trainer) | {"model": torch.nn.Linear(2, 2)}))
    model.weight.requires_grad_(False)
    model.bias.requires_grad_(False)
    assert not needs_masters(trainer), "frozen weights need none"


def test_interrupted_and_continued_it_ends_with_the_same_weights(base_model, birds, tmp_path, monkeypatch):
    classes, images = birds
    images = images.filter((images["split"] == "train") & (images["class_id"] < 24)).head(4)
    rows = questions(*(question(c, c, image=image) for image, c in images["image_id", "class_id"].iter_rows()))
    rows = rows.with_columns(images["image"], dataset=images["dataset"])
    lists, nothing = ClassLists(classes), images.head(0)
    params = replace(
        DEFAULTS, method="sft", model=base_model, weights="bfloat16", learning_rate=2e-5, schedule="linear",
        warmup_steps=0, prompts_per_step=2, prompts_per_device=2, check_every=2, steps=4, threads=2,
    )  # fmt: skip

    def train(name):
        folder = RunFolder(tmp_path / name)
        train_round(rows, lists, nothing, base_model, params, folder, 4, 0)
        return folder

    undisturbed = train("undisturbed")

    def save_once(model, source, folder):
        if (tmp_path / "interrupted" / "best").exists():
            raise KeyboardInterrupt
        save_model(model, source, folder)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pipeline.training.run.save_model", save_once)
        train("interrupted")
    assert RunFolder(tmp_path / "interrupted").last().name == "checkpoint-2"
    states = [torch.load(f.last() / "optimizer.pt") for f in (undisturbed, train("interrupted"))]
    assert all(torch.equal(*masters) for masters in zip(*(state["masters"] for state in states), strict=True))
    result, expected = (
        load_file(tmp_path / name / "best" / "model.safetensors") for name in ("interrupted", "undisturbed")
    )
    assert all(torch.equal(result[name], weights) for name, weights in expected.items())
    assert {weights.dtype for weights in expected.values()} == {torch.bfloat16}
    first = load_model(base_model, "bfloat16", "eager").state_dict()
    assert any(
        not torch.equal(weights, first[name])
        for name, weights in load_model(str(undisturbed.best), "bfloat16", "eager").state_dict().items()
    )
