"""Log-probabilities of the completions of a group, from one forward pass over its prompt.

TRL's own pass repeats prompt and picture for every completion. Here the prompt of a group stands once, and completions
stand behind the prompts, without padding. Each attends to its prompt and to itself, and its positions continue those of
the prompt, so that its log-probabilities are those of the repeated pass, up to rounding; the gradient of the prompt is
the sum over its group. Prefix Grouper (arXiv 2506.05433) does the same for text.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pipeline.engines.local.text_attention import require_no_encoder
from pipeline.training.shared_prompts.layout import Layout, layout_of
from pipeline.training.shared_prompts.pictures import by_group

TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")


def score(
    model: Any, base: Any, ids: Any, mask: Any, keep: int, generations: int, batch_size: int, others: dict[str, Any]
) -> tuple[Any, Any]:
    """Log-probability and entropy of each token of the completions.

    Within `shared_prompt_attention(base)`.

    Args:
        model: with TRL's fused output layer: `base`, or what accelerate or PEFT made of it.
        base: the model of transformers.
        ids: prompts, padded on the left, and completions, padded on the right, (completions, tokens); those of a group
            stand together.
        mask: which of them count, same shape.
        keep: tokens of the completions.
        generations: completions in a group.
        batch_size: completions in one forward pass, whole groups.
        others: what the model reads of pictures, as TRL passes it: of one picture for each completion.

    Returns:
        Both of shape (completions, keep), 0 for a token that does not count. No entropies where the output layer
        computes none, as that of a reference model.

    Raises:
        NotImplementedError: for a model whose completions cannot share a prompt.
    """
    require_keys_and_values(base)
    pictures = by_group(others, generations)
    parts = []
    for first in range(0, len(ids), batch_size):
        rows = slice(first, first + batch_size)
        groups = slice(first // generations, (first + batch_size) // generations)
        inputs = {name: torch.cat(parts[groups]) for name, parts in pictures.items()}
        parts.append(_score(model, base, ids[rows], mask[rows], keep, generations, inputs))
    log_probs, entropies = (None if columns[0] is None else torch.cat(columns) for columns in zip(*parts, strict=True))
    return log_probs, entropies


def require_keys_and_values(model: Any) -> None:
    """Raises NotImplementedError for a model whose text layers remember more of a text than keys and values."""
    require_no_encoder(model)
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    if others := kinds - {"full_attention", "sliding_attention"}:
        raise NotImplementedError(f"layers of the type {min(others)} cannot share a prompt")


def _score(
    model: Any, base: Any, ids: Any, mask: Any, keep: int, generations: int, pictures: dict[str, Any]
) -> tuple[Any, Any]:
    """Like `score`, in one forward pass over all groups."""
    (prompts, completions), (prompt_mask, counts) = (table.tensor_split([-keep], dim=1) for table in (ids, mask))
    prompts, prompt_mask, counts = prompts[::generations], prompt_mask[::generations], counts.bool()
    layout = layout_of(prompts.shape[1], counts.sum(1).clamp(min=1), generations)
    tokens = layout.by_slot(completions[:, : layout.completion])
    inputs = {
        **pictures,
        "input_ids": torch.cat([prompts, tokens], dim=1),
        "attention_mask": torch.cat([prompt_mask, prompt_mask.new_ones(tokens.shape)], dim=1),
    }
    for name in TOKEN_TYPES:
        if name in inputs:
            types = inputs[name][:, : layout.prompt]
            inputs[name] = torch.cat([types, types.new_zeros(tokens.shape)], dim=1)
    inputs["position_ids"] = _positions(base, inputs, layout)

    scored = counts[:, : layout.completion]
    places = torch.nn.functional.pad(scored, (0, keep - layout.completion))
    with _states_at(base.base_model, layout.before[scored]):
        output = model(**inputs, layout=layout, shift_labels=completions[places][None], fused_lm_head=True)
    log_probs, entropies = (
        None if values is None else values.new_zeros(completions.shape).masked_scatter(places, values[0])
        for values in (output.log_probs, output.entropy)
    )
    return log_probs, entropies


def _positions(base: Any, inputs: dict[str, Any], layout: Layout) -> Any:
    """(…, groups, slots): those that the family gives to each completion, were it alone behind its prompt."""
    end = layout.prompt + layout.completion
    of_slots = ("input_ids", "attention_mask", *TOKEN_TYPES)
    one = {name: tensor[:, :end] if name in of_slots else tensor for name, tensor in inputs.items()}
    positions = base._prepare_position_ids_for_generation(one["input_ids"], one)
    # (…, completions, completion), in which `tokens` counts.
    completions = positions[..., layout.prompt :].repeat_interleave(layout.generations, dim=-2)
    completions = completions.flatten(-2)[..., layout.tokens]
    return torch.cat([positions[..., : layout.prompt], completions], dim=-1)


@contextmanager
def _states_at(backbone: Any, places: Any) -> Iterator[None]:
    """Within it the backbone returns the hidden states of these slots only, (1, slots, hidden size).

    The output layer then reads no others. `places`: among the slots of all groups, int64.
    """

    def select(module: Any, inputs: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state.flatten(0, 1)[places][None]
        return output

    handle = backbone.register_forward_hook(select)
    try:
        yield
    finally:
        handle.remove()
