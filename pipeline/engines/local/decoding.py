"""Decoding many draws side by side, token after token, until every draw has ended.

A row is one history: draws of a prompt that have chosen the same tokens so far share it, and part where their tokens
do. At first there is a row for each prompt.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch

from pipeline.core.engine import Request, Sampler
from pipeline.engines.local.tokens import TokenSampler

# Removing rows copies the caches of the others, so it waits until a quarter of the rows has ended.
MAX_SHARE_TO_SELECT = 0.75

HasEnded = Callable[[Any], Any]
"""Returns which rows of token ids, (rows, tokens), end with their last token: bool of shape (rows,)."""


class Step(NamedTuple):
    """The next rows.

    Args:
        parents: the row that each continues, int64 and ascending; None where every row continues as it is.
        tokens: the token that it adds, int64 of the same shape; empty where all draws have ended.
    """

    parents: Any
    tokens: Any


class Rows(Protocol):
    """What the model keeps of each row that is decoded, and the logits of the row's next token."""

    logits: Any
    """(rows, vocabulary)"""

    def select(self, parents: Any) -> None:
        """Continues these rows only, int64 and ascending; one that is named many times becomes as many rows."""

    def forward(self, tokens: Any) -> None:
        """One forward pass over the next token of every row, int64 of shape (rows,)."""


class Choices(Protocol):
    """Chooses the tokens of all draws."""

    max_tokens: int

    def choose(self, logits: Any, step: int) -> Step:
        """Chooses token `step` of every draw from the logits of the rows, (rows, vocabulary)."""


class Draws:
    """The tokens of all draws.

    Args:
        requests: their prompts are the first rows.
        prompts: token ids before the draws of each request, int64 of shape (requests, length).
        never: token ids that are never sampled.

    Attributes:
        names: (image_id, number) of every draw.
        tokens: sampled so far, int64 of shape (draws, max_new_tokens).
        logprobs: of the tokens of greedy draws, same shape; 0 for others.
        lengths: tokens of each draw, the one that ended it included; 0 while it continues.
        draws: those that continue, int64.
        row: the row of each of them, int64.
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
        self.draws, self.row = torch.arange(len(self.names), device=device), owners(requests, device)
        self.sampler = TokenSampler(sampler, self.names, prompts[self.row], never)

    def choose(self, logits: Any, step: int) -> Step:
        token = self.sampler(logits, self.row, step)
        self.tokens[self.draws, step] = token
        if self.sampler.any_greedy:
            greedy = self.sampler.greedy
            logprobs = logits[self.row[greedy]].float().log_softmax(-1).gather(1, token[greedy, None])
            self.logprobs[self.draws[greedy], step] = logprobs[:, 0]
        ended = self.has_ended(self.tokens[self.draws, : step + 1])
        self.lengths[self.draws[ended]] = step + 1
        active = (~ended).nonzero()[:, 0]
        if len(active) < len(token):
            self.draws = self.draws[active]
            self.sampler.select(active)
        following, self.row = next_rows(self.row[active], token[active], len(logits))
        return following


def next_rows(row: Any, token: Any, count: int) -> tuple[Step, Any]:
    """The rows after a step, and the row of each draw among them.

    Args:
        row: of each draw that continues, int64 of shape (draws,).
        token: that it has chosen, likewise.
        count: of rows so far.
    """
    pairs, place = (row << 32 | token).unique(return_inverse=True)
    parents, tokens = pairs >> 32, pairs & 0xFFFFFFFF
    parted = bool((parents.diff() == 0).any())
    if parted or len(parents) <= MAX_SHARE_TO_SELECT * count:
        return Step(parents, tokens), place
    added = tokens[:1].repeat(count)  # rows without a draw go on with any token
    added[parents] = tokens
    return Step(None, added), row


def owners(requests: Sequence[Request], device: Any) -> Any:
    """The place among `requests` of each of their draws, int64 of shape (draws,)."""
    return torch.tensor([place for place, request in enumerate(requests) for _ in request.draws], device=device)


def decode(rows: Rows, draws: Choices) -> None:
    """Draws until every draw has ended or has `max_tokens` tokens."""
    for step in range(draws.max_tokens):
        parents, tokens = draws.choose(rows.logits, step)
        if not len(tokens) or step + 1 == draws.max_tokens:
            return
        if parents is not None:
            rows.select(parents)
        rows.forward(tokens)
