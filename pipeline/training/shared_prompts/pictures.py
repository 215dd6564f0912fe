"""The pictures of a step: prepared once for their group, and found again among those of its completions."""

from collections.abc import Sequence
from typing import Any

import torch


def by_group(pictures: dict[str, Any], generations: int) -> dict[str, list[Any]]:
    """What the model reads of the picture of each group, from TRL's table of one picture for each completion."""
    tensors = {name: tensor for name, tensor in pictures.items() if isinstance(tensor, torch.Tensor)}
    entries = _entries(tensors) or pictures.get("num_tiles") or pictures["num_images"]
    return {name: _split(tensor, entries)[::generations] for name, tensor in tensors.items()}


class GroupProcessor:
    """A processor that is asked about equal prompts and pictures, as many as a group has, and prepares one of each.

    Args:
        processor: of transformers.
        generations: completions in a group.
    """

    def __init__(self, processor: Any, generations: int):
        self.processor, self.generations = processor, generations

    def __getattr__(self, name: str) -> Any:
        return getattr(self.processor, name)

    def __call__(self, *, images: Sequence[Any], text: Sequence[str], **more: Any) -> Any:
        groups = len(text) // self.generations
        once = self.processor(images=images[:: self.generations], text=text[:: self.generations], **more)
        entries = _entries(once) or [1] * groups
        if any(len(tensor) not in (groups, sum(entries)) for tensor in once.values()):
            return self.processor(images=images, text=text, **more)  # tiles, of which it does not say how many
        for name, tensor in once.items():
            parts = _split(tensor, entries)
            once[name] = torch.cat([part for part in parts for _ in range(self.generations)])
        return once


def _entries(tensors: Any) -> list[int]:
    """Patches of each picture, of families whose pictures differ in their number; else empty."""
    return tensors["image_grid_thw"].prod(-1).tolist() if "image_grid_thw" in tensors else []


def _split(tensor: Any, entries: list[int]) -> Any:
    """The part of each picture; some tensors have an entry for each patch or tile, others one for a picture."""
    return tensor.split(entries if len(tensor) == sum(entries) else 1)
