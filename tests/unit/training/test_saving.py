"""A saved model opens wherever the model that was trained opens: its other files are copied byte for byte."""

import shutil
from pathlib import Path

import pytest
from support.hub_processors import FAMILIES, LAYOUTS, hub_folder, open_stock

from pipeline.engines.common.loading import load_model, load_processor
from pipeline.training.saving import copy_others, save_model

pytestmark = pytest.mark.slow

COPIED = (
    *("chat_template.jinja", "additional_chat_templates/tools.jinja", "decoder_tokenizer/vocab.txt", "LICENSE"),
    *("preprocessor_config.json", "video_preprocessor_config.json", "tokenizer.model", "merges.txt"),
)
LEFT = (
    *("README.md", ".gitattributes", ".cache/huggingface/merges.txt", "original/consolidated.00.pth"),
    *("pytorch_model.bin", "onnx/model.onnx", "model-00001-of-00002.safetensors", "training_args.bin"),
)


def files(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def put(folder, names, text):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def test_all_but_weights_and_config_is_copied(base_model, tmp_path):
    source = shutil.copytree(base_model, tmp_path / "source")
    model = load_model(str(source), "bfloat16", "eager")
    put(source, (*COPIED, *LEFT), "the source's")
    save_model(model, source, tmp_path / "policy")
    before, after = files(source), files(tmp_path / "policy")
    assert after.keys() == before.keys() - {*LEFT, "scores.json"}
    changed = {name for name in after if after[name] != before[name]}
    assert changed <= {"config.json", "model.safetensors"}
    assert load_model(str(tmp_path / "policy"), "bfloat16", "eager").generation_config.do_sample


def test_what_a_trainer_wrote_of_the_processor_is_replaced(base_model, tmp_path):
    """Its processor_config.json would come before the source's preprocessor_config.json."""
    source = hub_folder(tmp_path / "source", "qwen2_5_vl", "files")
    (source / "generation_config.json").unlink()
    (source / "processor_config.json").unlink()
    policy = tmp_path / "policy"
    load_model(base_model, "float32", "eager").save_pretrained(policy)
    load_processor(str(source)).save_pretrained(policy)
    put(policy, ["training_args.bin", "added_tokens.json"], "the trainer's")
    copy_others(source, policy)
    own = {"model.safetensors", "config.json", "generation_config.json"}
    assert files(policy).keys() == files(source).keys() | own
    assert all(files(policy)[name] == content for name, content in files(source).items() if name != "config.json")


@pytest.fixture
def folders(tmp_path, base_model):
    """Sources, each with what is saved of it: of every family in both layouts, and the field guide."""
    sources = [hub_folder(tmp_path / layout / family, family, layout) for family in FAMILIES for layout in LAYOUTS]
    policies = []
    for source in (*sources, Path(base_model)):
        policy = tmp_path / "saved" / source.parent.name / source.name
        policy.mkdir(parents=True)
        shutil.copy(source / "config.json", policy)
        copy_others(source, policy)
        policies.append(policy)
    return [*sources, Path(base_model)], policies


def test_the_stock_processor_opens_it_where_torchvision_is(folders, tmp_path):
    sources, policies = folders
    opened = open_stock([*sources, *policies], torchvision=tmp_path / "packages")
    for source, found in zip(sources * 2, opened, strict=True):
        processor, _, video = FAMILIES.get(source.name, FAMILIES["qwen2_5_vl"])
        assert found[:2] == [processor, video], source
        assert source.name == "fieldguide" or found[2] == [0.5, 0.4, 0.2], "the source's own setting"


def test_the_stock_processor_says_the_same_of_it_as_of_its_source_where_torchvision_is_not(folders):
    sources, policies = folders
    opened = open_stock([*sources, *policies], torchvision=None)
    assert opened[: len(sources)] == opened[len(sources) :]
    assert all("orchvision" in error for error in opened), "every family wants it for videos"
