"""Attention in sequences of a prompt and, one behind the other, all completions of its group.

It plugs into transformers as an attention implementation, and so serves every model whose text layers remember keys and
values alone.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from pipeline.engines.local.text_attention import require_plain_scores, text_attention
from pipeline.training.shared_prompts.layout import Layout

_NAME = "divek_shared_prompts"


def attention(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    layout: Layout,
    softcap: float | None = None,
    s_aux: Any = None,
    **more: Any,
) -> tuple[Any, None]:
    """Prompts attend to themselves, and each completion to its prompt and itself.

    Args:
        module: the attention layer that calls.
        query: (groups, heads, slots, head size).
        key: (groups, key-value heads, slots, head size).
        value: like `key`.
        attention_mask: what a slot may attend to if a group is read as one text, bool, (groups, 1, slots, slots).
        layout: where the completions stand.

    Returns:
        The output, (groups, slots, heads, head size), and no weights.

    Raises:
        NotImplementedError: for a model with capped scores or attention sinks.
    """
    require_plain_scores(softcap, s_aux)
    end = layout.prompt
    mask = attention_mask[:, :, :end, :end]
    prompts, _ = sdpa_attention_forward(
        module, query[:, :, :end], key[:, :, :end], value[:, :, :end], mask, is_causal=False, **more
    )
    completions, _ = sdpa_attention_forward(
        module,
        layout.by_completion(query, layout.slots),
        layout.by_completion(key, layout.reach),
        layout.by_completion(value, layout.reach),
        layout.mask_of_completions(attention_mask),
        is_causal=False,
        **more,
    )
    return torch.cat([prompts, layout.by_slot(completions)], dim=1), None


def whole_mask(*args: Any, **more: Any) -> Any:
    """The family's mask as a table, also where a flag would do for a sequence of one text."""
    return sdpa_mask(*args, **more | {"allow_is_causal_skip": False})


AttentionInterface.register(_NAME, attention)
AttentionMaskInterface.register(_NAME, whole_mask)


def shared_prompt_attention(model: Any) -> AbstractContextManager[None]:
    """Within it the model's text layers use this attention; a forward pass then needs the argument `layout`.

    With gradient checkpointing it must last until the gradients are there.
    """
    return text_attention(model, _NAME)
