"""Counter-based noise: independent of everything but its key, and truly Gumbel."""

import math

import pytest
import torch

from pipeline.engines.common.noise import gumbel, gumbel_of, stream

pytestmark = pytest.mark.slow


def keys(count):
    return torch.tensor([stream(0, "image", draw) for draw in range(count)])


def test_a_row_is_the_same_alone_and_in_any_batch():
    streams, tokens = keys(64), torch.arange(500)
    together = gumbel(streams, 0, tokens)
    assert torch.equal(gumbel(streams[17:18], 0, tokens)[0], together[17])
    backwards = gumbel(streams.flip(0), 0, tokens)
    assert torch.equal(backwards.flip(0), together)


def test_a_token_has_its_noise_whichever_others_compete():
    streams = keys(6)
    together = gumbel(streams, 3, torch.arange(500))
    some = torch.randint(500, (6, 20), generator=torch.Generator().manual_seed(0))
    assert torch.equal(gumbel(streams, 3, some), together.gather(1, some))


def test_seed_image_draw_and_position_all_matter():
    one = {stream(0, "a", 0), stream(1, "a", 0), stream(0, "b", 0), stream(0, "a", 1)}
    assert len(one) == 4
    tokens = torch.arange(50)
    assert not torch.equal(gumbel(keys(1), 0, tokens), gumbel(keys(1), 1, tokens))


def test_moments_are_those_of_the_gumbel_distribution():
    noise = torch.cat([gumbel(keys(400), position, torch.arange(500)) for position in (0, 1, 1023)]).double()
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.01)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, rel=0.02)
    assert torch.isfinite(noise).all()


def test_noise_is_finite_whatever_the_bits():
    """Infinite noise draws its token, however improbable, and even one that was cut off: argmax takes NaN."""
    ends = [0, 1, 2, 3, -1, -2, 2**63 - 1, -(2**63), -(2**63) + 1]
    near = [value for power in range(20, 63) for value in (2**power - 1, 2**power, -(2**power), 2**63 - 2**power)]
    assert torch.isfinite(gumbel_of(torch.tensor(ends + near))).all()


def test_the_tail_has_room_for_tokens_that_are_hardly_ever_drawn():
    """Noise above g comes with chance 1 − exp(−exp(−g)): at every power of two the noise is that of its share."""
    powers = torch.arange(2, 61)
    noise = gumbel_of(2**powers << 1).double()
    expected = -torch.log(-torch.log1p(-(2.0 ** (powers.double() - 63))))
    assert (noise - expected).abs().max() < 0.2 and (noise - expected)[8:].abs().max() < 1e-3


def test_neighbours_are_not_correlated():
    tokens = torch.arange(300)
    noise = gumbel(keys(300), 0, tokens).double()
    for other in (noise.roll(1, 0), noise.roll(1, 1), gumbel(keys(300), 1, tokens).double()):
        correlation = torch.corrcoef(torch.stack([noise.flatten(), other.flatten()]))[0, 1].item()
        assert abs(correlation) < 0.02


def test_argmax_draws_from_the_softmax():
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5])
    rows = 40_000
    streams = torch.tensor([stream(0, "image", draw) for draw in range(rows)])
    tokens = (logits + gumbel(streams, 0, torch.arange(5))).argmax(-1)
    counts, expected = torch.bincount(tokens, minlength=5), logits.softmax(-1) * rows
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    assert chi_square < 18.5, "0.1 % critical value for 4 degrees of freedom"
