"""The probability that a model gives its own answer."""

import math
from collections.abc import Sequence

from pipeline.method.answers import answer_span


def answer_probability(pieces: Sequence[str], logprobs: Sequence[float]) -> float | None:
    """Probability of the text inside <answer>, given the text before it; None where there is no answer.

    Args:
        pieces: the completion, token by token.
        logprobs: natural logarithm of each token's probability.
    """
    span = answer_span("".join(pieces))
    if span is None:
        return None
    total, start = 0.0, 0
    for piece, logprob in zip(pieces, logprobs, strict=True):
        end = start + len(piece)
        if start < span[1] and end > span[0]:
            total += logprob
        start = end
    return math.exp(min(0.0, total))
