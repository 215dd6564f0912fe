"""The memory that presets state, against the classes, the adapters and the image processors of their models."""

import os
import re
from pathlib import Path

import pytest
from PIL import Image
from ruamel.yaml import YAML
from support.preset_layer import kept_by_layer
from support.preset_memory import HEADING, memory, numbers
from support.preset_models import PUBLISHED
from support.project import ROOT

from pipeline.core.params import load_params
from pipeline.core.presets import merged, preset_names, preset_values
from pipeline.training.params import TrainParams

pytestmark = pytest.mark.slow

NAMES = sorted(PUBLISHED)
ROOM = 0.85  # of a GPU: the rest is for CUDA, the vision tower's pass and fragments


def train_params(name: str, folder: Path) -> TrainParams:
    """The settings of training with a preset."""
    yaml = YAML(typ="safe")
    defaults = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    yaml.dump(merged(defaults, preset_values(Path(f"presets/{name}.yaml"))), folder / "params.yaml")
    return load_params(TrainParams, folder / "params.yaml")


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def preset(name: str) -> str:
    return (ROOT / "presets" / f"{name}.yaml").read_text(encoding="utf-8")


def comment(name: str) -> list[str]:
    """The lines of a preset below HEADING, up to an empty one."""
    lines = preset(name).splitlines()
    below = lines[lines.index(HEADING) + 1 :]
    return below[: below.index("#")]


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_states_the_memory_of_its_model(name, tmp_path):
    published, train = PUBLISHED[name], train_params(name, tmp_path)
    counted = numbers(published, train)
    assert counted.weights == pytest.approx(published.billions * 1e9, abs=5e5), "as published"
    lines = memory(published, counted, train)
    print("", HEADING, *lines, sep="\n")  # what the comment must be, where it is not
    assert comment(name) == lines


@pytest.mark.skipif(not os.environ.get("DIVEK_PRESETS"), reason="half a minute for each; set DIVEK_PRESETS=1")
@pytest.mark.parametrize("name", NAMES)
def test_a_layer_keeps_as_much_as_the_numbers_say(name):
    assert kept_by_layer(PUBLISHED[name]) == pytest.approx(PUBLISHED[name].layer, abs=1)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_fits_the_gpu_that_it_names(name):
    gigabytes = int(re.search(r"on one GPU of (\d+) GB", preset(name))[1])
    total = float(comment(name)[-1].split()[2])
    assert total * 2**30 < ROOM * gigabytes * 1e9


def test_every_preset_but_the_papers_has_its_numbers():
    assert sorted({*preset_names()} - {"paper"}) == NAMES


# A square, and the proportions of a photo, of 401,408 pixels.
PICTURES = ((633, 633), (731, 548), (548, 731), (896, 448))


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_has_as_many_tokens_at_most(name):
    most = max(tokens(PUBLISHED[name].family, Image.new("RGB", size)) for size in PICTURES)
    assert 0.9 * PUBLISHED[name].picture <= most <= PUBLISHED[name].picture


def tokens(family: str, picture: Image.Image) -> int:
    """Tokens of a picture by the image processor of a published model, their marks included."""
    from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    width, height = picture.size
    if family == "gemma3":  # mm_tokens_per_image
        return 256
    if family == "gemma4":
        return int(max(Gemma4ImageProcessorPil()(picture, return_tensors="pt")["num_soft_tokens_per_image"]))
    if family == "internvl":
        size = {"height": 448, "width": 448}
        tiles = {"crop_to_patches": True, "min_patches": 1, "max_patches": 12, "size": size}
        return GotOcr2ImageProcessorPil(**tiles).get_number_of_image_patches(height, width, tiles) * 256
    if family == "smolvlm":
        sizes = {"size": {"longest_edge": 1536}, "max_image_size": {"longest_edge": 384}, "do_image_splitting": True}
        _, rows, columns = SmolVLMImageProcessorPil(**sizes).get_number_of_image_patches(height, width, sizes)
        marks, whole = 2, 4  # of a tile; around the whole picture
        return rows * columns * (81 + marks) + rows + 81 + whole
    patch = 14 if family == "qwen2_5_vl" else 16
    processor = Qwen2VLImageProcessorPil(patch_size=patch, size={"shortest_edge": 56**2, "longest_edge": 12845056})
    return int(processor(picture, return_tensors="pt")["image_grid_thw"].prod()) // 4
