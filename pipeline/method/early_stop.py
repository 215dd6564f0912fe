"""When the draws of an image are enough: a departure from the paper, which always draws K times."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.method.votes import Ints, leaders

Stop = Callable[[Ints], NDArray[np.bool_]]
"""Says for which images the draws so far, (images, draws), are enough."""

RULES = ("never", "order", "vote")
LOOK_EVERY = 4  # draws between two looks at whether they are enough


def stop_rule(rule: str, confidence: float, topk: int, num_samples: int) -> Stop | None:
    """One of RULES; None for never.

    Args:
        rule: `order` stops once what is left of the K draws cannot change the order of the options, `vote` once the
            leading class is the most probable one with this confidence.
    """
    if rule == "never":
        return None
    if rule == "vote":
        return lambda draws: vote_is_decided(leaders(draws, 2)[:, -1], confidence)
    return lambda draws: order_is_settled(leaders(draws, topk + 1)[:, -1], num_samples - draws.shape[1])


def vote_is_decided(votes: Ints, confidence: float) -> NDArray[np.bool_]:
    """Whether the leading class is the most probable one with this confidence.

    With a votes for the first and b for the second class, their shares p and q are independent of the rest, and under
    a flat prior the chance of p > q is that of Beta(a + 1, b + 1) > 1/2.

    Args:
        votes: (…, at least 2) of the leading classes, as `leaders` counts them.
    """
    from scipy.special import betainc

    most = np.arange(int(votes.max(initial=0)) + 1)
    chance = betainc(most[None, :] + 1, most[:, None] + 1, 0.5)
    return np.asarray(chance[votes[..., 0], votes[..., 1]] >= confidence, np.bool_)


def order_is_settled(votes: Ints, left: Ints | int) -> NDArray[np.bool_]:
    """Whether `left` more draws cannot change the order of the options.

    Each option must lead the next, and the last the best of those left out, by more votes than are still to come.

    Args:
        votes: (…, options + 1) of the leading classes, as `leaders` counts them.
    """
    leads = (votes[..., :-1] - votes[..., 1:]).min(axis=-1)
    return np.asarray((leads > left) | (np.asarray(left) == 0), np.bool_)


def draws_until_decided(votes: Ints, confidence: float, every: int = 1) -> Ints:
    """(images,): draws after which `vote_is_decided`, looked at after `every` draws; at most K.

    `votes` are (images, K, at least 2).
    """
    return _first(vote_is_decided(votes, confidence), every)


def draws_until_settled(votes: Ints, every: int = 1) -> Ints:
    """(images,): draws after which `order_is_settled`, looked at after `every` draws; at most K.

    `votes` are (images, K, options + 1).
    """
    return _first(order_is_settled(votes, votes.shape[1] - 1 - np.arange(votes.shape[1])), every)


def _first(holds: NDArray[np.bool_], every: int) -> Ints:
    seen = holds & ((np.arange(holds.shape[1]) + 1) % every == 0)
    return np.asarray(np.where(seen.any(axis=1), seen.argmax(axis=1) + 1, holds.shape[1]), np.int64)
