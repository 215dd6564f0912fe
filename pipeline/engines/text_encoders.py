"""Embeddings of class names, for options by text embedding."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline.core.params import UserError, first_line
from pipeline.engines.common.loading import load_model, load_processor

Embed = Callable[[Sequence[str]], Any]


def text_encoder(source: str, model: str) -> Embed:
    """Embeds names, (names, size), with the sentence-transformers model `source`; "" takes the word vectors of `model`.

    Raises:
        UserError: the model cannot be loaded.
    """
    return _sentence_encoder(source) if source else _word_vectors(model)


def _sentence_encoder(source: str) -> Embed:
    from sentence_transformers import SentenceTransformer

    try:
        encoder = SentenceTransformer(source, device="cpu", trust_remote_code=False)
    except Exception as error:
        raise UserError(
            f"options.encoder {source}: cannot be loaded ({first_line(error)}); it must be a sentence-transformers "
            "folder or hub id: set it with `dvc exp run -S options.encoder=…`"
        ) from error
    return lambda names: encoder.encode(list(names), convert_to_numpy=True)


def _word_vectors(model: str) -> Embed:
    """The mean of the model's own input vectors of a name's tokens: no other model is needed."""
    tokenizer = load_processor(model).tokenizer
    table = load_model(model, "float32", "eager").get_input_embeddings().weight.detach().cpu().numpy()

    def embed(names: Sequence[str]) -> Any:
        return np.stack([table[tokenizer(name, add_special_tokens=False)["input_ids"]].mean(axis=0) for name in names])

    return embed
