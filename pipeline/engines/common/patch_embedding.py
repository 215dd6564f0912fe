"""Patch embeddings as matrix products: on CPUs the convolution of single patches is several times slower.

A vision tower embeds patches with a convolution whose stride is its kernel. Qwen's and others' get every patch as a
picture of its own, one kernel in size: flattened, patches and kernels are the factors of one matrix product. Towers
whose convolution reads whole pictures (Gemma 3, LLaVA) keep it: CPUs are as fast at that (bench/patch_embedding.py).
"""

from typing import Any

import torch
from torch import nn


class _PatchProduct:
    """A convolution, computed as a matrix product where it is one of single patches on a CPU."""

    def _conv_forward(self, input: Any, weight: Any, bias: Any) -> Any:
        """`input`: (patches, channels, *size), `weight`: (width, channels, *kernel). Returns (patches, width, 1, …)."""
        if input.device.type != "cpu" or input.shape[1:] != weight.shape[1:]:
            return super()._conv_forward(input, weight, bias)  # type: ignore[misc]
        product = nn.functional.linear(input.flatten(1), weight.flatten(1), bias)
        return product.view(*product.shape, *[1] * (input.ndim - 2))


class PatchConv2d(_PatchProduct, nn.Conv2d):  # type: ignore[misc]
    """A Conv2d of patches."""


class PatchConv3d(_PatchProduct, nn.Conv3d):  # type: ignore[misc]
    """A Conv3d of patches."""


PATCH_CONVOLUTIONS = {nn.Conv2d: PatchConv2d, nn.Conv3d: PatchConv3d}


def use_patch_products(model: torch.nn.Module) -> None:
    """Gives the patch convolutions of `model` the class that computes a matrix product; their parameters stay."""
    for module in model.modules():
        if type(module) in PATCH_CONVOLUTIONS and _reads_patches(module):
            # The class, not a function of the instance, so that copies and pickles of the model compute alike.
            module.__class__ = PATCH_CONVOLUTIONS[type(module)]


def _reads_patches(convolution: Any) -> bool:
    """Whether a convolution goes from patch to patch, without overlap, gaps or a margin."""
    ones = (1,) * len(convolution.kernel_size)
    return bool(
        convolution.stride == convolution.kernel_size
        and convolution.dilation == ones
        and convolution.groups == 1
        and convolution.padding in ("valid", (0,) * len(ones))
    )
