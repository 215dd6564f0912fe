"""Decoding many draws side by side: a row for each draw, token after token, until every row has ended."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from pipeline.core.engine import GREEDY, Request, Sampler
from pipeline.engines.local.prefill import Prefill
from pipeline.engines.local.shared_prefix import Prefix, completion_cache, shared_prefix_attention
from pipeline.engines.local.tokens import TokenSampler

# Removing rows copies the caches of the others, so it waits until a quarter of the rows has ended.
MAX_SHARE_TO_SELECT = 0.75

HasEnded = Callable[[Any], Any]
"""Returns which rows of token ids, (rows, tokens), end with their last token: bool of shape (rows,)."""


class DecodingState:
    """The tokens of all draws, and the tensors of the rows that are still decoded.

    Args:
        requests: in the order of the rows of `prefill`; a row of the state for each of their draws.
        never: token ids that are never sampled.

    Attributes:
        draws: (image_id, number) of every draw.
        tokens: sampled so far, int64 of shape (draws, max_new_tokens).
        logprobs: of the tokens of greedy draws, same shape; 0 for others.
        lengths: tokens of each draw, the one that ended it included; 0 while it continues.
        rows: the draws that are still decoded, int64. All tensors below have an entry for each of them.
    """

    def __init__(self, requests: Sequence[Request], prefill: Prefill, sampler: Sampler, never: Sequence[int]):
        device = prefill.logits.device
        self.draws = [(request.image_id, draw) for request in requests for draw in request.draws]
        owner = torch.tensor([place for place, request in enumerate(requests) for _ in request.draws], device=device)
        self.tokens = torch.zeros(len(self.draws), sampler.max_new_tokens, dtype=torch.int64, device=device)
        self.logprobs = torch.zeros(len(self.draws), sampler.max_new_tokens, device=device)
        self.lengths = torch.zeros(len(self.draws), dtype=torch.int64, device=device)
        self.rows = torch.arange(len(self.draws), device=device)
        self.logits, self.positions = prefill.logits[owner], prefill.positions[..., owner, -1:]
        self.prefix, self.cache = Prefix(prefill.layers, prefill.mask, owner), completion_cache()
        self.sampler = TokenSampler(sampler, self.draws, prefill.unpadded()[owner], never)
        self.has_greedy = any(draw == GREEDY for _, draw in self.draws)

    def choose(self, step: int, has_ended: HasEnded) -> Any:
        """Chooses token `step` of every row. Returns which rows continue, as places in `rows`."""
        token = self.sampler(self.logits, step)
        self.tokens[self.rows, step] = token
        if self.has_greedy:
            greedy = self.sampler.greedy
            logprobs = self.logits[greedy].float().log_softmax(-1).gather(1, token[greedy, None])
            self.logprobs[self.rows[greedy], step] = logprobs[:, 0]
        ends = has_ended(self.tokens[self.rows, : step + 1]) & (self.lengths[self.rows] == 0)
        self.lengths[self.rows] += ends * (step + 1)
        return (self.lengths[self.rows] == 0).nonzero()[:, 0]

    def select(self, places: Any) -> None:
        """Continues with these places in `rows` only."""
        self.rows, self.positions = self.rows[places], self.positions[..., places, :]
        self.sampler.select(places)
        self.prefix.select(places)
        self.cache.batch_select_indices(places)

    def forward(self, model: Any, step: int) -> None:
        """One forward pass over token `step` of every row."""
        self.positions = self.positions + 1
        self.logits = model(
            input_ids=self.tokens[self.rows, step][:, None],
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
            prefix=self.prefix,
        ).logits[:, -1]


def decode(
    model: Any,
    requests: Sequence[Request],
    prefill: Prefill,
    sampler: Sampler,
    never: Sequence[int],
    has_ended: HasEnded,
) -> DecodingState:
    """Draws until every row has ended or has `max_new_tokens` tokens."""
    state = DecodingState(requests, prefill, sampler, never)
    with shared_prefix_attention(model):
        for step in range(sampler.max_new_tokens):
            active = state.choose(step, has_ended)
            if not len(active) or step + 1 == sampler.max_new_tokens:
                break
            if len(active) <= MAX_SHARE_TO_SELECT * len(state.rows):
                state.select(active)
            state.forward(model, step)
    return state
