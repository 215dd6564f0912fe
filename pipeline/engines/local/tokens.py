"""Chooses the next token of many draws at once: transformers' own penalties and cut-offs, counter-based noise."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from pipeline.core.engine import GREEDY, Sampler
from pipeline.engines.common.noise import gumbel, stream

BLOCK = 64  # tokens whose largest score is looked at first


class TokenSampler:
    """Samples tokens for draws, given as (image, draw number); a draw of number GREEDY gets the likeliest."""

    def __init__(self, sampler: Sampler, draws: Sequence[tuple[str, int]], prompts: Any, never: Sequence[int] = ()):
        """`prompts`: token ids before each draw, int64 of shape (draws, length); `never`: ids that are not sampled."""
        device = prompts.device
        self.never = torch.tensor(never, dtype=torch.int64, device=device)
        keys = [stream(sampler.seed, image_id, draw) for image_id, draw in draws]
        self.streams = torch.tensor(keys, device=device)
        self.greedy = torch.tensor([draw == GREEDY for _, draw in draws], device=device)
        self.any_greedy = any(draw == GREEDY for _, draw in draws)
        self.top_k = sampler.top_k
        self.penalty = RepetitionPenaltyLogitsProcessor(sampler.repetition_penalty)
        self.history = prompts if sampler.penalize_prompt else prompts[:, :0]
        self.cut_offs = LogitsProcessorList([TemperatureLogitsWarper(sampler.temperature)])
        if sampler.top_p < 1:
            self.cut_offs.append(TopPLogitsWarper(sampler.top_p))

    def __call__(self, logits: Any, row: Any, position: int) -> Any:
        """The next token of each draw, int64 of shape (draws,), after `position` tokens of the completion.

        Args:
            logits: (rows, vocabulary).
            row: of each draw, int64; draws of one row have the same tokens so far.
        """
        scores = logits.float()
        if len(self.never):
            scores = scores.index_fill(1, self.never, -torch.inf)
        if self.penalty.penalty != 1 and self.history.shape[1]:
            history = self.history.new_zeros(len(scores), self.history.shape[1])
            history[row] = self.history
            scores = self.penalty(history, scores)
        token = scores.argmax(-1)[row] if self.any_greedy else self._draw(scores, row, position)
        if self.any_greedy and not self.greedy.all():
            token = torch.where(self.greedy, token, self._draw(scores, row, position))
        if self.penalty.penalty != 1:
            self.history = torch.cat([self.history, token[:, None]], dim=1)
        return token

    def _draw(self, scores: Any, row: Any, position: int) -> Any:
        tokens = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
        if 0 < self.top_k < scores.shape[1]:
            scores, tokens = top_k(scores, self.top_k)
        tokens = tokens[row]
        noisy = self.cut_offs(None, scores)[row] + gumbel(self.streams, position, tokens)
        return tokens.gather(1, noisy.argmax(-1, keepdim=True))[:, 0]

    def select(self, draws: Any) -> None:
        """Keeps `draws` only, int64."""
        self.streams, self.greedy, self.history = self.streams[draws], self.greedy[draws], self.history[draws]


def top_k(scores: Any, k: int) -> tuple[Any, Any]:
    """The k largest scores of each row and their places, like `topk`, which is slow over a vocabulary on a CPU.

    The k blocks with the largest maxima hold them. `scores` has shape (rows, vocabulary).
    """
    count = scores.shape[1] // BLOCK
    if count < 4 * k:
        top, places = scores.topk(k)
        return top, places
    maxima = scores[:, : count * BLOCK].unflatten(1, (count, BLOCK)).amax(-1)
    places = torch.arange(scores.shape[1], device=scores.device)
    blocks = places[: count * BLOCK].view(count, BLOCK)[maxima.topk(k).indices].flatten(1)
    places = torch.cat([blocks, places[count * BLOCK :].expand(len(scores), -1)], dim=1)
    top, order = scores.gather(1, places).topk(k)
    return top, places.gather(1, order)
