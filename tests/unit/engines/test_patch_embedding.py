"""The embedding of patches as a matrix product, against the convolution that it stands for."""

import copy
import pickle

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.tiny_models import tiny_model
from torch import nn
from transformers import AutoModelForImageTextToText

from pipeline.engines.common.loading import load_model
from pipeline.engines.common.patch_embedding import PATCH_CONVOLUTIONS, use_patch_products

pytestmark = pytest.mark.slow

KERNELS = {nn.Conv2d: (4, 5), nn.Conv3d: (2, 4, 5)}


def pair(kind, bias):
    """A convolution of patches and its copy that computes a matrix product."""
    torch.manual_seed(0)
    stock = nn.Sequential(kind(3, 7, KERNELS[kind], KERNELS[kind], bias=bias))
    ours = copy.deepcopy(stock)
    use_patch_products(ours)
    assert type(ours[0]) is PATCH_CONVOLUTIONS[kind]
    return stock, ours


def gradients(model, pixels):
    """The output, and the gradients of its pixels and parameters."""
    pixels = pixels.clone().requires_grad_()
    output = model(pixels)
    output.square().sum().backward()
    return [output.detach(), pixels.grad, *(weights.grad for weights in model.parameters())]


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("patches", [1, 6])
def test_single_patches_have_the_values_and_gradients_of_the_convolution(kind, bias, patches):
    stock, ours = pair(kind, bias)
    pixels = torch.randn(patches, 3, *KERNELS[kind])
    for actual, expected in zip(gradients(ours, pixels), gradients(stock, pixels), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KERNELS)
def test_whole_pictures_are_convolved_as_before(kind):
    stock, ours = pair(kind, bias=True)
    pixels = torch.randn(2, 3, *(3 * size + 1 for size in KERNELS[kind]))
    assert torch.equal(ours(pixels), stock(pixels))
    assert torch.equal(ours(pixels[0]), stock(pixels[0]))  # without a batch


class Convolution(nn.Conv2d):
    """Another's kind, which may compute something else."""


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(3, 6, 4, 2),  # overlap
        nn.Conv2d(3, 6, 4, 5),  # gaps
        nn.Conv2d(3, 6, 4, (4, 3)),
        nn.Conv2d(3, 6, 4, 4, padding=1),
        nn.Conv2d(3, 6, 1, 1, padding="same"),
        nn.Conv2d(3, 6, 4, 4, dilation=2),
        nn.Conv2d(3, 6, 4, 4, groups=3),
        nn.ConvTranspose2d(3, 6, 4, 4),
        nn.Conv1d(3, 6, 4, 4),
        Convolution(3, 6, 4, 4),
    ],
)
def test_other_convolutions_are_left_alone(convolution):
    kind = type(convolution)
    use_patch_products(convolution)
    assert type(convolution) is kind


def test_copies_and_pickles_compute_alike():
    _, ours = pair(nn.Conv3d, bias=True)
    pixels = torch.randn(6, 3, *KERNELS[nn.Conv3d])
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert type(other[0]) is type(ours[0])
        assert torch.equal(other(pixels), ours(pixels))


def test_an_adapter_trains_on_it_and_is_merged():
    stock, ours = pair(nn.Conv3d, bias=True)
    model = get_peft_model(ours, LoraConfig(target_modules=["0"], r=2, init_lora_weights=False))
    pixels = torch.randn(6, 3, *KERNELS[nn.Conv3d])
    model(pixels).sum().backward()
    assert all(weights.grad is not None for name, weights in model.named_parameters() if "lora" in name)
    expected = model(pixels)
    merged = model.merge_and_unload()
    torch.testing.assert_close(merged(pixels), expected)
    stock.load_state_dict(merged.state_dict())
    torch.testing.assert_close(stock(pixels), expected)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "gemma3", "llava"])
def test_a_loaded_model_has_it_and_is_saved_as_it_came(family, base_model, tmp_path):
    folder = base_model if family == "qwen2_5_vl" else str(tiny_model(tmp_path / family, family))
    stock = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    ours = load_model(folder, "float32", "eager")
    assert sum(type(module) in PATCH_CONVOLUTIONS.values() for module in ours.modules()) == 1
    assert list(ours.state_dict()) == list(stock.state_dict())
    for name, model in {"stock": stock, "ours": ours}.items():
        model.save_pretrained(tmp_path / name)
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "ours" / file).read_bytes() == (tmp_path / "stock" / file).read_bytes()
