"""Where a completion ends: with an end mark of the model, or with a stop text."""

from collections.abc import Callable, Sequence
from typing import Any

import torch


def end_test(
    end_tokens: Sequence[int], stop: Sequence[str], text_of: Callable[[list[int]], str], device: Any
) -> Callable[[Any], Any]:
    """The test for rows of token ids that end with their last token: (rows, tokens) → bool of shape (rows,)."""
    ends = torch.tensor(end_tokens, device=device)
    # transformers' StopStringCriteria fails on vocabularies of words. A text has no more tokens than bytes.
    reach = max((len(mark.encode()) for mark in stop), default=0)

    def has_ended(ids: Any) -> Any:
        by_token = torch.isin(ids[:, -1], ends)
        if not stop:
            return by_token
        recent = [text_of(row) for row in ids[:, -reach:].tolist()]
        return by_token | torch.tensor([any(mark in text for mark in stop) for text in recent], device=ids.device)

    return has_ended
