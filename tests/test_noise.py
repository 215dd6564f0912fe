"""Counter-based noise: independent of everything but its key, and truly Gumbel."""

import math

import pytest
import torch

from pipeline.engines.noise import gumbel, stream


def keys(count):
    return torch.tensor([stream(0, "image", draw) for draw in range(count)])


def test_a_row_is_the_same_alone_and_in_any_batch():
    streams, positions = keys(64), torch.zeros(64, dtype=torch.int64)
    together = gumbel(streams, positions, 500)
    assert torch.equal(gumbel(streams[17:18], positions[:1], 500)[0], together[17])
    backwards = gumbel(streams.flip(0), positions, 500)
    assert torch.equal(backwards.flip(0), together)


def test_seed_image_draw_and_position_all_matter():
    one = {stream(0, "a", 0), stream(1, "a", 0), stream(0, "b", 0), stream(0, "a", 1)}
    assert len(one) == 4
    row = keys(1)
    assert not torch.equal(gumbel(row, torch.tensor([0]), 50), gumbel(row, torch.tensor([1]), 50))


def test_moments_are_those_of_the_gumbel_distribution():
    noise = gumbel(keys(400), torch.arange(400), 500).double()
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.01)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, rel=0.02)
    assert torch.isfinite(noise).all()


def test_neighbours_are_not_correlated():
    noise = gumbel(keys(300), torch.zeros(300, dtype=torch.int64), 300).double()
    for other in (
        noise.roll(1, 0),
        noise.roll(1, 1),
        gumbel(keys(300), torch.ones(300, dtype=torch.int64), 300).double(),
    ):
        correlation = torch.corrcoef(torch.stack([noise.flatten(), other.flatten()]))[0, 1].item()
        assert abs(correlation) < 0.02


def test_argmax_draws_from_the_softmax():
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5])
    rows = 40_000
    chosen = (logits + gumbel(keys(1).repeat(rows), torch.arange(rows), 5)).argmax(-1)
    counts, wanted = torch.bincount(chosen, minlength=5), logits.softmax(-1) * rows
    chi_square = ((counts - wanted) ** 2 / wanted).sum().item()
    assert chi_square < 18.5, "0.1 % critical value for 4 degrees of freedom"
