"""Decoding many draws side by side: a row for each draw, token after token, until every row has ended."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from pipeline.core.engine import GREEDY, Request, Sampler
from pipeline.engines.local.tokens import TokenSampler

# Removing rows copies the caches of the others, so it waits until a quarter of the rows has ended.
MAX_SHARE_TO_SELECT = 0.75

HasEnded = Callable[[Any], Any]
"""Returns which rows of token ids, (rows, tokens), end with their last token: bool of shape (rows,)."""


class Rows(Protocol):
    """What the model keeps of each row that is decoded, and the logits of the row's next token."""

    logits: Any
    """(rows, vocabulary)"""

    def select(self, places: Any) -> None:
        """Continues with these rows only: int64, ascending."""

    def forward(self, tokens: Any) -> None:
        """One forward pass over the next token of every row, int64 of shape (rows,)."""


class Choices(Protocol):
    """Chooses the tokens of all rows."""

    max_tokens: int

    def choose(self, logits: Any, step: int) -> Any:
        """Chooses token `step` of every row from logits of shape (rows, vocabulary).

        Returns which rows continue, as places among the rows.
        """

    def chosen(self, step: int) -> Any:
        """Token `step` of every row, int64 of shape (rows,)."""

    def select(self, places: Any) -> None:
        """Continues with these rows only: int64, ascending."""


class Draws:
    """The tokens of all draws.

    Args:
        requests: a row for each of their draws, in their order.
        prompts: token ids before the draws of each request, int64 of shape (requests, length).
        never: token ids that are never sampled.

    Attributes:
        names: (image_id, number) of every draw.
        tokens: sampled so far, int64 of shape (draws, max_new_tokens).
        logprobs: of the tokens of greedy draws, same shape; 0 for others.
        lengths: tokens of each draw, the one that ended it included; 0 while it continues.
        rows: the draws that are still decoded, int64.
    """

    def __init__(
        self, requests: Sequence[Request], prompts: Any, sampler: Sampler, never: Sequence[int], has_ended: HasEnded
    ):
        device = prompts.device
        self.names = [(request.image_id, draw) for request in requests for draw in request.draws]
        self.max_tokens, self.has_ended = sampler.max_new_tokens, has_ended
        self.tokens = torch.zeros(len(self.names), self.max_tokens, dtype=torch.int64, device=device)
        self.logprobs = torch.zeros(len(self.names), self.max_tokens, device=device)
        self.lengths = torch.zeros(len(self.names), dtype=torch.int64, device=device)
        self.rows = torch.arange(len(self.names), device=device)
        self.sampler = TokenSampler(sampler, self.names, prompts[owners(requests, device)], never)
        self.has_greedy = any(draw == GREEDY for _, draw in self.names)

    def choose(self, logits: Any, step: int) -> Any:
        token = self.sampler(logits, step)
        self.tokens[self.rows, step] = token
        if self.has_greedy:
            greedy = self.sampler.greedy
            logprobs = logits[greedy].float().log_softmax(-1).gather(1, token[greedy, None])
            self.logprobs[self.rows[greedy], step] = logprobs[:, 0]
        ends = self.has_ended(self.tokens[self.rows, : step + 1]) & (self.lengths[self.rows] == 0)
        self.lengths[self.rows] += ends * (step + 1)
        return (self.lengths[self.rows] == 0).nonzero()[:, 0]

    def chosen(self, step: int) -> Any:
        return self.tokens[self.rows, step]

    def select(self, places: Any) -> None:
        self.rows = self.rows[places]
        self.sampler.select(places)


def owners(requests: Sequence[Request], device: Any) -> Any:
    """The place among `requests` of each of their draws, int64 of shape (draws,)."""
    return torch.tensor([place for place, request in enumerate(requests) for _ in request.draws], device=device)


def decode(rows: Rows, draws: Choices) -> None:
    """Draws until every row has ended or has `max_tokens` tokens."""
    count = len(rows.logits)
    for step in range(draws.max_tokens):
        active = draws.choose(rows.logits, step)
        if not len(active) or step + 1 == draws.max_tokens:
            return
        if len(active) <= MAX_SHARE_TO_SELECT * count:
            draws.select(active)
            rows.select(active)
            count = len(active)
        rows.forward(draws.chosen(step))
