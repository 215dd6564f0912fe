"""The completions of draws: their text up to its end, and the probability of a greedy answer."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from pipeline.core.engine import GREEDY, Completion
from pipeline.engines.common.probability import answer_probability


def text_of(tokenizer: Any, tokens: Sequence[int]) -> str:
    """The text of token ids, verbatim."""
    return str(tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def continued(processor: Any, prefix: str, completion: Completion) -> str:
    """The text of a completion that goes on from `prefix`, which is part of it."""
    if not prefix:
        return completion.text
    tokenizer = processor.tokenizer
    before = tokenizer(prefix, add_special_tokens=False)["input_ids"]
    whole = text_of(tokenizer, [*before, *completion.ids]).removeprefix(text_of(tokenizer, before))
    # Tokenizers of words, and those that drop a text's first space, have the space between the two in neither.
    gap = whole.removesuffix(text_of(tokenizer, completion.ids))
    return f"{prefix}{gap}{completion.text}"


def completions_of(draws: Any, tokenizer: Any, ends: Sequence[int], stop: tuple[str, ...]) -> list[Completion]:
    """The completions of a `decoding.Draws`.

    Args:
        ends: token ids that end a completion.
        stop: texts that do.
    """
    read = cache(lambda tokens: text_of(tokenizer, tokens))  # many draws are alike
    columns = (draws.tokens.tolist(), draws.logprobs.tolist(), draws.lengths.tolist())
    return [
        _completion(image_id, draw, ids, logprobs, length, read, ends, stop)
        for (image_id, draw), ids, logprobs, length in zip(draws.names, *columns, strict=True)
    ]


def _completion(
    image_id: str,
    draw: int,
    tokens: list[int],
    logprobs: list[float],
    length: int,
    read: Callable[[tuple[int, ...]], str],
    ends: Sequence[int],
    stop: tuple[str, ...],
) -> Completion:
    """`length`: tokens up to the one that ends the completion, itself included; 0 where none does."""
    finished = length > 0
    ids = tuple(tokens[:length] if finished else tokens)
    probability = None
    if draw == GREEDY:
        words = [read((token,)) for token in ids]
        probability = answer_probability(words, logprobs[: len(ids)])
    text = read(ids[:-1] if ids[-1] in ends else ids)
    cuts = [text.index(mark) + len(mark) for mark in stop if mark in text]
    text = text[: min(cuts, default=len(text))]
    return Completion(image_id, draw, text, len(ids), finished, None, ids, probability)
