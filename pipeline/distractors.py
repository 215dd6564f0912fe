"""Wrong options that do not come from the model's own answers: the baselines that the paper compares with."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.params import UserError

Embed = Callable[[Sequence[str]], Any]
"""Names → vectors, float array of shape (names, size)."""


def random_classes(truth: int, classes: Sequence[int], count: int, seed: int, image_id: str) -> list[int]:
    """`count` other classes, or all there are, drawn for the image."""
    others = [class_id for class_id in classes if class_id != truth]
    return random.Random(f"distractors {seed}/{image_id}").sample(others, min(count, len(others)))


def nearest_classes(names: Sequence[str], count: int, embed: Embed) -> list[list[int]]:
    """For each name the indices of the `count` names most like it by the cosine of their vectors, nearest first."""
    import numpy as np

    vectors = np.asarray(embed(names), dtype=np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    # Stable, so that equal ones stay in the order of the list.
    order = np.argsort(-likeness, axis=1, kind="stable")[:, : min(count, len(names) - 1)]
    return [row.tolist() for row in order]


def encoder(source: str, model: str) -> Embed:
    """Embeds names with the sentence-transformers model `source`, or where it is "" with the word vectors of `model`.

    Raises UserError where it cannot be opened.
    """
    return _sentence_encoder(source) if source else _word_vectors(model)


def _sentence_encoder(source: str) -> Embed:
    from sentence_transformers import SentenceTransformer

    try:
        found = SentenceTransformer(source, device="cpu")
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"options.encoder {source}: cannot be opened ({reason}), wanted a sentence-transformers folder or hub id; "
            "set it with `dvc exp run -S options.encoder=…`"
        ) from error
    return lambda names: found.encode(list(names), convert_to_numpy=True)


def _word_vectors(model: str) -> Embed:
    """The mean of the model's own input vectors of a name's tokens: no other model is needed."""
    from pipeline.loading import load_model, load_processor

    tokenizer = load_processor(model).tokenizer
    table = load_model(model, "float32", "eager").get_input_embeddings().weight.detach().cpu().numpy()

    def embed(names: Sequence[str]) -> Any:
        import numpy as np

        return np.stack([table[tokenizer(name, add_special_tokens=False)["input_ids"]].mean(axis=0) for name in names])

    return embed
