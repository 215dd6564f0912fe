"""What the ways to share a prompt, in drawing and in training, have in common: their place in transformers' models."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def text_attention(model: Any, name: str) -> Iterator[None]:
    """Within it the model's text layers use the attention that is registered under `name`."""
    config = model.config.get_text_config()
    previous = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = previous


def require_plain_scores(softcap: float | None, sinks: Any) -> None:
    """Raises NotImplementedError for an attention layer with capped scores or attention sinks."""
    if softcap is not None or sinks is not None:
        kind = "capped attention scores" if sinks is None else "attention sinks"
        raise NotImplementedError(f"{kind} cannot share a prompt")


def require_no_encoder(model: Any) -> None:
    """Raises NotImplementedError for a model whose prompt is read by an encoder."""
    if model.config.is_encoder_decoder:
        raise NotImplementedError("a decoder beside an encoder cannot share a prompt")
