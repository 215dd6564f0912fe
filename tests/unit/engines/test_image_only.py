"""Processors of families that also read videos: they open without torchvision, and read pictures."""

import copy
import json
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image
from support.hub_processors import FAMILIES, IMAGE, LAYOUTS, hub_folder

from pipeline.core.params import UserError
from pipeline.engines.common.loading import load_processor

pytestmark = pytest.mark.slow

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_familys_own_class_reads_pictures_and_refuses_videos(family, layout, tmp_path):
    processor = load_processor(str(hub_folder(tmp_path / family, family, layout)))
    assert type(processor).__name__ == FAMILIES[family][0]
    inputs = processor(text=[f"user {IMAGE} assistant"], images=[[NOISE]], return_tensors="pt")
    (pixels,) = (value for name, value in inputs.items() if name.startswith("pixel_values"))
    assert pixels.float().std() > 0.1 and inputs["input_ids"].shape[1] > 3
    with pytest.raises(UserError, match="a video was given to a processor; expected pictures only"):
        processor.video_processor([np.zeros((4, 56, 56, 3), np.uint8)])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_settings_of_the_video_part_are_kept(layout, tmp_path):
    """In the checkpoints of training too, whose processor transformers writes."""
    processor = load_processor(str(hub_folder(tmp_path / "model", "minicpmv4_6", layout)))
    assert copy.deepcopy(processor).video_processor.image_mean == [0.5, 0.4, 0.2]
    processor.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "processor_config.json").read_text(encoding="utf-8"))
    video = {"video_processor_type": "MiniCPMV4_6VideoProcessor", "image_mean": [0.5, 0.4, 0.2]}
    assert saved["video_processor"] == video


def test_a_folder_without_a_video_part_opens(tmp_path):
    folder = hub_folder(tmp_path / "model", "qwen2_5_vl", "nested")
    settings = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))
    del settings["video_processor"]
    (folder / "processor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    assert list(load_processor(str(folder)).image_processor.image_mean) == [0.5, 0.4, 0.3]


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_an_image_processor_that_needs_torchvision_is_a_sentence(tmp_path):
    folder = hub_folder(tmp_path / "model", "qwen2_5_vl", "nested")
    settings = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))
    settings["image_processor"]["image_processor_type"] = "PerceptionLMImageProcessor"
    (folder / "processor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(UserError, match="its processor needs torchvision, which is not installed; install"):
        load_processor(str(folder))


def test_a_tokenizer_alone_is_no_processor(tmp_path):
    folder = hub_folder(tmp_path / "model", "qwen2_5_vl", "nested")
    (folder / "processor_config.json").write_text('{"processor_class": "Unknown"}', encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"processor_class": None}), encoding="utf-8")
    with pytest.raises(UserError, match="describe no processor of text and pictures"):
        load_processor(str(folder))
