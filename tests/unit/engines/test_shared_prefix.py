"""Attention over one copy of a prompt, against attention over a copy for every row."""

from types import SimpleNamespace

import pytest
import torch

from pipeline.engines.local.shared_prefix import Prefix, attention, completion_cache

pytestmark = pytest.mark.slow

IMAGES, LENGTH, HEADS, GROUPS, SIZE = 4, 9, 6, 2, 8


def usual(query, key, value, visible, scaling):
    """Attention with everything written out; `visible` is (rows, 1, 1, tokens)."""
    key, value = (x.repeat_interleave(HEADS // GROUPS, dim=1) for x in (key, value))
    scores = (query @ key.transpose(-1, -2) * scaling).masked_fill(~visible, -torch.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2)


@pytest.fixture
def prompt():
    torch.manual_seed(0)
    layers = [(torch.randn(IMAGES, GROUPS, LENGTH, SIZE), torch.randn(IMAGES, GROUPS, LENGTH, SIZE))]
    mask = torch.ones(IMAGES, LENGTH, dtype=torch.bool)
    mask[0, :3] = False  # padded on the left
    mask[2, 5:7] = False  # a first question out of sight
    return layers, mask


@pytest.mark.parametrize("owner", [[0, 0, 1, 1, 2, 2, 3, 3], [0, 1, 1, 1, 3], [2], [0, 1, 2, 3], [1] * 7])
@pytest.mark.parametrize("window", [None, 4, 6, 30])
@pytest.mark.parametrize("own", [1, 5])
def test_it_is_usual_attention(prompt, owner, window, own):
    layers, mask = prompt
    owner = torch.tensor(owner)
    rows = len(owner)
    query, key, value = torch.randn(rows, HEADS, 1, SIZE), *torch.randn(2, rows, GROUPS, own, SIZE)
    layer = SimpleNamespace(layer_idx=0)
    prefix = Prefix(layers, mask, owner)
    output, _ = attention(layer, query, key, value, None, prefix=prefix, scaling=0.3, sliding_window=window)
    visible = torch.cat([mask[owner], torch.ones(rows, own, dtype=torch.bool)], dim=1)
    if window:
        visible[:, : max(0, LENGTH + own - window)] = False
    keys, values = torch.cat([layers[0][0][owner], key], 2), torch.cat([layers[0][1][owner], value], 2)
    torch.testing.assert_close(output, usual(query, keys, values, visible[:, None, None], 0.3))


def test_scores_are_not_rounded_to_16_bits(prompt):
    """Keys with a large bias, as Qwen2's: all products are near 500, and what tells the keys apart is below 1."""
    layers, mask = prompt
    owner, rows = torch.tensor([0, 1, 1, 3]), 4
    bias = torch.full((SIZE,), 8.0)
    keys, values = (layer.bfloat16() for layer in (layers[0][0] / 16 + bias, layers[0][1]))
    query = (torch.randn(rows, HEADS, 1, SIZE) / 16 + bias).bfloat16()
    key, value = (
        x.bfloat16() for x in (torch.randn(rows, GROUPS, 2, SIZE) / 16 + bias, torch.randn(rows, GROUPS, 2, SIZE))
    )
    layer = SimpleNamespace(layer_idx=0)
    visible = torch.cat([mask[owner], torch.ones(rows, 2, dtype=torch.bool)], dim=1)[:, None, None, :]
    whole = [torch.cat([old[owner], new], 2).double() for old, new in ((keys, key), (values, value))]
    expected = usual(query.double(), *whole, visible, 1.0)
    with torch.autocast("cpu", torch.bfloat16):  # as in training
        output, _ = attention(layer, query, key, value, None, prefix=Prefix([(keys, values)], mask, owner), scaling=1.0)
    assert output.dtype == torch.bfloat16
    assert (output.double() - expected).norm() < 0.01 * expected.norm()


def test_a_layer_that_holds_its_window_only(prompt):
    layers, mask = prompt
    owner, window, own = torch.tensor([0, 1, 1, 3]), 5, 2
    query, key, value = torch.randn(4, HEADS, 1, SIZE), *torch.randn(2, 4, GROUPS, own, SIZE)
    layer = SimpleNamespace(layer_idx=0)
    whole = Prefix(layers, mask, owner)
    last = Prefix([tuple(x[:, :, 1 - window :] for x in layers[0])], mask, owner)
    settings = {"scaling": 0.3, "sliding_window": window}
    expected, _ = attention(layer, query, key, value, None, prefix=whole, **settings)
    output, _ = attention(layer, query, key, value, None, prefix=last, **settings)
    torch.testing.assert_close(output, expected)


def test_rows_that_leave_change_nothing_for_the_others(prompt):
    layers, mask = prompt
    owner = torch.tensor([0, 0, 1, 2, 2, 2, 3])
    query, key, value = torch.randn(7, HEADS, 1, SIZE), *torch.randn(2, 7, GROUPS, 3, SIZE)
    layer = SimpleNamespace(layer_idx=0)
    before, _ = attention(layer, query, key, value, None, prefix=Prefix(layers, mask, owner), scaling=0.3)
    prefix, left = Prefix(layers, mask, owner), torch.tensor([1, 3, 5])
    prefix.select(left)
    assert len(prefix.layers[0][0]) == len(prefix.mask) == 2, "prompts without rows are let go"
    after, _ = attention(layer, query[left], key[left], value[left], None, prefix=prefix, scaling=0.3)
    torch.testing.assert_close(after, before[left])


def test_a_row_continues_as_many(prompt):
    layers, mask = prompt
    query, key, value = torch.randn(4, HEADS, 1, SIZE), *torch.randn(2, 4, GROUPS, 3, SIZE)
    layer, parents = SimpleNamespace(layer_idx=0), torch.tensor([0, 1, 1, 1, 2, 3, 3])
    prefix = Prefix(layers, mask)
    before, _ = attention(layer, query, key, value, None, prefix=prefix, scaling=0.3)
    prefix.select(parents)
    after, _ = attention(layer, query[parents], key[parents], value[parents], None, prefix=prefix, scaling=0.3)
    torch.testing.assert_close(after, before[parents])


def test_what_is_not_supported_says_so(prompt):
    layers, mask = prompt
    rows = (torch.randn(1, HEADS, 1, SIZE), *torch.randn(2, 1, GROUPS, 1, SIZE))
    prefix = Prefix(layers, mask, torch.tensor([0]))
    with pytest.raises(NotImplementedError, match="capped attention scores cannot share"):
        attention(SimpleNamespace(layer_idx=0), *rows, None, prefix=prefix, scaling=1.0, softcap=30.0)


def test_the_cache_grows_and_lets_rows_go():
    torch.manual_seed(0)
    cache, tokens = completion_cache(), torch.randn(40, 5, GROUPS, 1, SIZE)
    for number, token in enumerate(tokens[:20]):
        keys, values = cache.update(token, -token, 0)
        assert torch.equal(keys, torch.cat(list(tokens[: number + 1]), 2))
        assert torch.equal(values, -keys)
    left = torch.tensor([0, 3])
    cache.batch_select_indices(left)
    for number, token in enumerate(tokens[20:], start=20):
        keys, _ = cache.update(token[left], -token[left], 0)
        assert torch.equal(keys, torch.cat(list(tokens[: number + 1, left]), 2))
    assert cache.get_seq_length() == 40


def test_rows_of_the_cache_part():
    torch.manual_seed(0)
    cache, (first, second, third) = completion_cache(), torch.randn(3, 3, GROUPS, 1, SIZE)
    for token in (first, second):
        cache.update(token, -token, 0)
    parents = torch.tensor([0, 0, 2])
    cache.batch_select_indices(parents)
    keys, values = cache.update(third, -third, 0)
    assert torch.equal(keys, torch.cat([first[parents], second[parents], third], 2))
    assert torch.equal(values, -keys)
