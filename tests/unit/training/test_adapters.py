"""Low-rank additions saved as an adapter beside their base: opened unmerged by us and by stock software."""

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest
import torch
from peft import get_peft_model
from support.families import noise
from support.training import DEFAULTS, LISTS, question, questions
from transformers import AutoModelForImageTextToText

from pipeline.core.engine import GREEDY, Request
from pipeline.core.params import UserError, load_params
from pipeline.core.pictures import picture
from pipeline.engines.common.adapters import base_of
from pipeline.engines.common.loading import load_model, load_processor
from pipeline.engines.common.model_folder import content
from pipeline.engines.local.transformers import TransformersEngine
from pipeline.engines.params import EngineParams
from pipeline.training.checkpoints import RunFolder
from pipeline.training.rollouts import rollout_sampler
from pipeline.training.run import run
from pipeline.training.saving import save_adapter, save_model
from pipeline.training.tuning import adapter, require_tuning

pytestmark = pytest.mark.slow

LORA = replace(DEFAULTS, tuning="lora", save="adapter", lora_rank=4, lora_alpha=8)
QUESTION = "Which bird is this ?"
SAMPLER = replace(rollout_sampler(DEFAULTS), max_new_tokens=12)


@pytest.fixture(scope="module")
def trained(base_model, tmp_path_factory):
    """A model in bfloat16 with small additions, as training leaves it, and the folder of its adapter."""
    torch.manual_seed(0)
    model = load_model(base_model, "bfloat16", "eager")
    model = get_peft_model(model, adapter(model, LORA)).eval()
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            weights.data.normal_(std=1e-2)
    folder = tmp_path_factory.mktemp("policy")
    save_adapter(model, Path(base_model), base_model, folder)
    return model, folder


def logits(model, processor):
    """The logits of a question about a picture."""
    text = DEFAULTS.chat.prompt(processor, QUESTION)
    inputs = processor(text=[text], images=[picture(noise(0))], return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits.float()


def test_an_adapter_holds_nothing_of_its_base_but_the_files_of_the_processor(trained, base_model):
    folder = trained[1]
    base = {file.name for file in Path(base_model).iterdir()}
    names = base - {"model.safetensors", "config.json", "README.md", "scores.json"}
    assert {file.name for file in folder.iterdir()} == names | {"adapter_config.json", "adapter_model.safetensors"}
    assert all((folder / name).read_bytes() == (Path(base_model) / name).read_bytes() for name in names)
    targets = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["target_modules"]
    assert targets == sorted(targets) and len(targets) > 4


def test_it_is_opened_unmerged_and_answers_to_the_bit_as_it_was_trained(trained, base_model):
    model, folder = trained
    processor = load_processor(str(folder))
    expected = logits(model, processor)
    copy = load_model(str(folder), "bfloat16", "eager")
    assert torch.equal(logits(copy, processor), expected)
    additions = {weights.dtype for name, weights in copy.named_parameters() if "lora_" in name}
    assert additions == {torch.float32} and not copy.training
    assert not torch.equal(logits(load_model(base_model, "bfloat16", "eager"), processor), expected)


def test_merged_into_16_bits_it_answers_otherwise(trained, base_model, tmp_path):
    model, folder = trained
    save_model(model, Path(base_model), tmp_path / "merged")
    processor = load_processor(str(folder))
    merged = logits(load_model(str(tmp_path / "merged"), "bfloat16", "eager"), processor)
    assert not torch.equal(merged, logits(model, processor)), "the rounding that an adapter avoids"


def test_stock_software_opens_the_folder(trained, base_model):
    model, folder = trained
    copy = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager")
    processor = load_processor(base_model)
    expected, base = logits(model, processor), logits(load_model(base_model, "bfloat16", "eager"), processor)
    # It has the additions in 16 bits, and embeds patches by a convolution, which rounds otherwise than a product.
    assert (logits(copy.eval(), processor) - expected).norm() < (base - expected).norm() / 4


def test_the_engine_draws_from_it(trained, base_model):
    _, folder = trained
    engine = TransformersEngine(str(folder), "float32", "eager", 100, 10_000, 1, DEFAULTS.chat)
    request = Request("x", noise(0), QUESTION, [GREEDY, *range(4)])
    texts = [one.text for batch in engine.draw([request], SAMPLER) for one in batch]
    assert engine.way.name == "shared" and len(texts) == 5
    base = TransformersEngine(base_model, "float32", "eager", 100, 10_000, 1, DEFAULTS.chat)
    assert engine.fingerprint()["model"] != base.fingerprint()["model"]


def test_what_is_drawn_depends_on_the_base_as_well(trained, base_model, tmp_path):
    folder, base = shutil.copytree(trained[1], tmp_path / "policy"), shutil.copytree(base_model, tmp_path / "base")
    config = folder / "adapter_config.json"
    config.write_text(config.read_text(encoding="utf-8").replace(base_model, str(base)), encoding="utf-8")
    assert base_of(str(folder)) == str(base) and base_of(str(base)) is None
    before = content(str(folder))
    (base / "generation_config.json").write_text("{}", encoding="utf-8")
    assert content(str(folder)) != before


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("adapter_config.json", "{", "adapter_config.json: cannot be read"),
        ("adapter_config.json", '{"peft_type": "LORA"}', "adapter_config.json: cannot be read"),
        ("adapter_config.json", '{"peft_type": "IA3", "base_model_name_or_path": "a/b"}', "expected LORA, of a model"),
        ("adapter_model.safetensors", None, "it has no adapter_model.safetensors"),
        ("adapter_model.safetensors", "damaged", "cannot be loaded"),
    ],
)
def test_a_damaged_adapter_is_one_sentence(trained, tmp_path, file, text, message):
    folder = shutil.copytree(trained[1], tmp_path / "policy")
    (folder / file).unlink()
    if text is not None:
        (folder / file).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        load_model(str(folder), "float32", "eager")
    assert "\n" not in str(caught.value)


def test_an_adapter_that_lacks_some_of_its_weights_is_one_sentence(trained, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(trained[1], tmp_path / "policy")
    state = load_file(folder / "adapter_model.safetensors")
    save_file(dict(list(state.items())[2:]), folder / "adapter_model.safetensors")
    with pytest.raises(UserError, match=r"cannot be loaded .*missing adapter keys"):
        load_model(str(folder), "float32", "eager")


def two_steps(folder, base_model, **changes):
    """Two steps of supervised training; the best weights are in the folder that is returned."""
    params = replace(
        LORA, method="sft", steps=2, prompts_per_step=1, prompts_per_device=1, warmup_steps=0, learning_rate=1e-2,
        check_every=2, threads=1, model=base_model, **changes,
    )  # fmt: skip
    hard = questions(question(0, 0, 1)).with_columns(pl.Series("image", [noise(0)]))
    model = load_model(base_model, params.weights, "eager")
    run(hard, LISTS, params, model, load_processor(base_model), Path(base_model), RunFolder(folder), None, 2, 0)
    return model, RunFolder(folder).best


def test_training_saves_an_adapter_of_its_model(base_model, tmp_path):
    model, best = two_steps(tmp_path, base_model)
    assert base_of(str(best)) == base_model and not (best / "model.safetensors").exists()
    processor = load_processor(str(best))
    result = logits(load_model(str(best), "float32", "eager"), processor)
    assert torch.equal(result, logits(model.eval(), processor))
    assert not torch.equal(result, logits(load_model(base_model, "float32", "eager"), processor))


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_a_base_of_4_bits_is_trained_through_its_adapter(base_model, tmp_path):
    model, best = two_steps(tmp_path, base_model, weights="nf4")
    assert sum(type(module).__name__ == "Linear4bit" for module in model.modules()) > 4
    copy = load_model(str(best), "float32", "eager")
    additions = [weights for name, weights in copy.named_parameters() if "lora_B" in name]
    assert additions and all(torch.count_nonzero(weights) for weights in additions)


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_without_bitsandbytes_a_base_of_4_bits_is_one_sentence(base_model):
    with pytest.raises(UserError, match=r"needs bitsandbytes; install it with `python -m pip install bitsandbytes`"):
        load_model(base_model, "nf4", "eager")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tuning": "full"}, "train.save is adapter, which takes low-rank additions"),
        (
            {"tuning": "full", "save": "merged", "weights": "nf4"},
            "is nf4, which takes low-rank additions",
        ),
        ({"save": "merged", "weights": "nf4"}, "nothing can be merged into weights of 4 bits"),
        ({"rounds": 2}, "train.rounds more than 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, message, base_model):
    require_tuning(replace(LORA, model=base_model))
    with pytest.raises(UserError, match=message):
        require_tuning(replace(LORA, model=base_model, **changes))


def test_an_adapter_is_neither_trained_further_nor_served_by_a_command(trained, base_model):
    folder = str(trained[1])
    with pytest.raises(UserError, match=f"an adapter of {base_model}, and training starts from whole weights"):
        require_tuning(replace(LORA, model=folder))
    served = replace(load_params(EngineParams), engine="openai", command="serve {model} {port}")
    with pytest.raises(UserError, match=r"which server\.command cannot serve by itself"):
        served.connect(folder, [])
