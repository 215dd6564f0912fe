"""Attention of many draws over one reading of their prompt: its keys and values are held once per image, not per draw.

Decoding K draws of one prompt with an ordinary cache repeats the prompt's keys and values K times, and reads all of
them for every token. Here the K queries of an image meet its one copy in a single matrix product, and each draw keeps
keys and values of its own tokens only. The result is that of ordinary attention, up to rounding.

It plugs into transformers as an attention implementation, and so serves every model whose layers call theirs through
`AttentionInterface`: Qwen2.5-VL, Gemma 3, Idefics3 and most others.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache, DynamicLayer

from pipeline.engines.local.decoding import MAX_SHARE_TO_SELECT
from pipeline.engines.local.text_attention import require_plain_scores, text_attention

_NAME = "divek_shared_prefix"


class Prefix:
    """The prompts' keys and values, and which prompt each row (a draw being decoded) continues.

    Args:
        layers: keys and values of each layer, (images, key-value heads, length, head size). A layer with a sliding
            window may hold the last tokens only.
        mask: which of the prompts' tokens are attended to, bool of shape (images, length).
        owner: the image of each row, int64 of shape (rows,), ascending; by default there is one row for each image.
    """

    def __init__(self, layers: list[tuple[Any, Any]], mask: Any, owner: Any = None):
        # In 16 bits once for all tokens, since scores are computed in float32.
        self.layers, self.mask = [(keys.float(), values) for keys, values in layers], mask
        self.owner = torch.arange(len(mask), device=mask.device) if owner is None else owner
        self._place()

    def _place(self) -> None:
        """Gives each row its slot in a table of (images, most rows of any image)."""
        counts = torch.bincount(self.owner, minlength=len(self.mask))
        first = counts.cumsum(0) - counts
        rank = torch.arange(len(self.owner), device=self.owner.device) - first[self.owner]
        self.width = int(counts.max())
        self.slots = self.owner * self.width + rank
        self.full = len(self.owner) == len(self.mask) * self.width
        self.hidden = None if self.mask.all() else ~self.mask[:, None, None, :]

    def select(self, rows: Any) -> None:
        """Continues `rows` only, int64 and ascending, possibly repeated; prompts without rows are released."""
        self.owner = self.owner[rows]
        images, owner = self.owner.unique(return_inverse=True)
        if len(images) <= MAX_SHARE_TO_SELECT * len(self.mask):
            self.owner, self.mask = owner, self.mask[images]
            self.layers = [(keys[images], values[images]) for keys, values in self.layers]
        self._place()

    def by_image(self, rows: Any) -> Any:
        """(rows, groups, share, size) → (images, groups, width · share, size); empty slots are zero."""
        _, groups, share, size = rows.shape
        if not self.full:
            table = rows.new_zeros(len(self.mask) * self.width, groups, share, size)
            table[self.slots] = rows
            rows = table
        rows = rows.view(len(self.mask), self.width, groups, share, size).transpose(1, 2)
        return rows.reshape(len(self.mask), groups, self.width * share, size)

    def by_row(self, table: Any, share: int) -> Any:
        """(images, groups, width · share, size) → (rows, groups, share, size)."""
        images, groups, _, size = table.shape
        rows = table.view(images, groups, self.width, share, size).transpose(1, 2)
        rows = rows.reshape(images * self.width, groups, share, size)
        return rows if self.full else rows[self.slots]


def attention(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    prefix: Prefix,
    scaling: float,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Any = None,
    **_: Any,
) -> tuple[Any, None]:
    """One new token per row attends to its image's prompt and its own completion.

    Args:
        module: the attention layer that calls.
        query: (rows, heads, 1, head size).
        key: of the completion so far, the new token included, (rows, key-value heads, tokens, head size).
        value: like `key`.
        attention_mask: not used; a completion's last token attends to all of it.
        prefix: what the rows continue.

    Returns:
        The output, (rows, 1, heads, head size), and no weights.

    Raises:
        NotImplementedError: for a model with capped scores or attention sinks.
    """
    require_plain_scores(softcap, s_aux)
    rows, heads, _, size = query.shape
    keys, values = prefix.layers[module.layer_idx]
    groups, own, length = key.shape[1], key.shape[2], keys.shape[2]
    share = heads // groups
    query = query.reshape(rows, groups, share, size).float() * scaling

    far = _scores(prefix.by_image(query), keys)
    if prefix.hidden is not None:
        far.masked_fill_(prefix.hidden[..., -length:], -torch.inf)
    scores = torch.cat([far, prefix.by_image(_scores(query, key))], dim=-1)
    if sliding_window is not None and length + own > sliding_window:
        # Distances count slots, padding included, as transformers' own masks do.
        scores[..., : length + own - sliding_window] = -torch.inf
    weights = scores.softmax(-1).to(value.dtype)
    far, near = weights.split([length, own], dim=-1)
    out = prefix.by_row(far @ values, share) + prefix.by_row(near, share) @ value
    return out.reshape(rows, 1, heads, values.shape[-1]), None


def _scores(query: Any, keys: Any) -> Any:
    """The products of queries and keys in float32, whatever the type of both.

    In 16 bits the rounding error exceeds the differences between tokens where the products are large, as the key biases
    of Qwen2 and Qwen2.5 make them.
    """
    with torch.autocast(query.device.type, enabled=False):
        return query.float() @ keys.float().transpose(-1, -2)


AttentionInterface.register(_NAME, attention)


def shared_prefix_attention(model: Any) -> AbstractContextManager[None]:
    """Within it the model's text layers use this attention; the forward pass then needs the argument `prefix`."""
    return text_attention(model, _NAME)


class _GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Room that doubles: appending a token does not copy all tokens before it."""

    def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
        super().lazy_initialization(key_states, value_states)
        self.length = 0
        self.room = [new.new_empty(*new.shape[:2], 0, new.shape[3]) for new in (key_states, value_states)]

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[2]
        if end > self.room[0].shape[2]:
            for place, buffer in enumerate(self.room):
                self.room[place] = buffer.new_empty(*buffer.shape[:2], max(16, 2 * end), buffer.shape[3])
                self.room[place][:, :, : self.length] = buffer[:, :, : self.length]
        for buffer, new in zip(self.room, (key_states, value_states), strict=True):
            buffer[:, :, self.length : end] = new
        self.length = end
        self._show()
        return self.keys, self.values

    def batch_select_indices(self, indices: Any) -> None:
        for place, buffer in enumerate(self.room):
            self.room[place] = buffer.new_empty(len(indices), *buffer.shape[1:])
            self.room[place][:, :, : self.length] = buffer[:, :, : self.length].index_select(0, indices)
        self._show()

    def _show(self) -> None:
        self.keys, self.values = (buffer[:, :, : self.length] for buffer in self.room)


def completion_cache() -> Any:
    """An empty cache for the draws' own tokens."""
    return Cache(layer_class_to_replicate=_GrowingLayer)
