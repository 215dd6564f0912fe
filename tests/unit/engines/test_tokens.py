"""The largest scores of long rows."""

import pytest
import torch

from pipeline.engines.local.tokens import BLOCK, top_k

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("size", [5, 50 * BLOCK, 400 * BLOCK, 400 * BLOCK + 7])
@pytest.mark.parametrize("k", [1, 5, 50])
def test_they_are_those_of_topk(size, k):
    torch.manual_seed(0)
    scores = torch.randn(20, size)
    scores[0] = torch.arange(size)  # the largest in a few blocks, or behind them
    scores[1] = -scores[0]
    scores[2, 3:] = -torch.inf
    k = min(k, size)
    expected, places = scores.topk(k)
    actual, found = top_k(scores, k)
    assert torch.equal(actual, expected)
    assert torch.equal(scores.gather(1, found), expected)
    assert torch.equal(found[expected > -torch.inf], places[expected > -torch.inf])
    assert all(len(set(row)) == k for row in found.tolist())
