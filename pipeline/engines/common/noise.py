"""Counter-based noise: every draw has its own stream, whatever the batch, the order or the number of processes.

A draw's noise at a position is a hash of (seed, image, draw, position, token), so nothing is carried from one token or
one row to the next. Added to the log-probabilities as Gumbel noise, its argmax is an exact sample (Gumbel-max).
"""

import hashlib
from typing import Any

# SplitMix64's increment and multipliers (Steele, Lea, Flood 2014), as signed 64-bit integers.
_STEP, _MIX1, _MIX2 = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def stream(seed: int, image_id: str, draw: int) -> int:
    """The signed 64-bit key of one draw's noise."""
    digest = hashlib.blake2b(f"{seed}/{image_id}/{draw}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _mix(x: Any) -> Any:
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _MIX1
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _MIX2
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def gumbel(streams: Any, position: int, tokens: Any) -> Any:
    """Standard Gumbel noise, float32, shape (rows, tokens).

    `streams` is an int64 tensor of shape (rows,), `position` counts the tokens of the completion, and `tokens` are the
    token ids that compete, int64 of shape (tokens,) for all rows alike or (rows, tokens): a token's noise does not
    depend on which others compete.
    """
    # Tensors of integers wrap around by themselves, Python's do not.
    step = ((position + 1) * _STEP + 2**63) % 2**64 - 2**63
    rows = _mix(streams + step)
    return gumbel_of(_mix(rows[:, None] + (tokens + 1) * _STEP))


def gumbel_of(bits: Any) -> Any:
    """Standard Gumbel noise, float32 and finite, from random int64 of any shape: the smaller bits >> 1, the larger."""
    import torch

    # 63 bits near 0, where float32 is fine-grained: tokens as rare as one in 2^60 keep their probability. Near 1 one
    # number in 2^24 would round to 1, and its infinite noise would draw its token whatever the logits.
    uniform = (((bits >> 1) & 0x7FFFFFFFFFFFFFFF).to(torch.float32) + 0.5) * 2.0**-63
    return -torch.log(-torch.log1p(-uniform.clamp(max=1 - 2.0**-24)))
