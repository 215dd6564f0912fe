"""The completions of draws: their text up to its end, and the probability of a greedy answer."""

from collections.abc import Sequence
from typing import Any

from pipeline.core.engine import GREEDY, Completion
from pipeline.engines.common.probability import answer_probability


def text_of(tokenizer: Any, tokens: Sequence[int]) -> str:
    """The text of token ids, verbatim."""
    return str(tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def completions_of(draws: Any, tokenizer: Any, ends: Sequence[int], stop: tuple[str, ...]) -> list[Completion]:
    """The completions of a `decoding.Draws`.

    Args:
        ends: token ids that end a completion.
        stop: texts that do.
    """
    columns = (draws.tokens.tolist(), draws.logprobs.tolist(), draws.lengths.tolist())
    return [
        _completion(image_id, draw, ids, logprobs, length, tokenizer, ends, stop)
        for (image_id, draw), ids, logprobs, length in zip(draws.names, *columns, strict=True)
    ]


def _completion(
    image_id: str,
    draw: int,
    tokens: list[int],
    logprobs: list[float],
    length: int,
    tokenizer: Any,
    ends: Sequence[int],
    stop: tuple[str, ...],
) -> Completion:
    """`length`: tokens up to the one that ends the completion, itself included; 0 where none does."""
    finished = length > 0
    tokens = tokens[:length] if finished else tokens
    probability = None
    if draw == GREEDY:
        words = [text_of(tokenizer, [token]) for token in tokens]
        probability = answer_probability(words, logprobs[: len(tokens)])
    text = text_of(tokenizer, tokens[:-1] if tokens[-1] in ends else tokens)
    cuts = [text.index(mark) + len(mark) for mark in stop if mark in text]
    text = text[: min(cuts, default=len(text))]
    return Completion(image_id, draw, text, len(tokens), finished, None, tuple(tokens), probability)
