"""Votes after every number of draws, against the plain counting that the options stage does."""

import random
from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.oracles import ranked

from pipeline.method.early_stop import draws_until_decided, draws_until_settled
from pipeline.method.votes import NONE, leaders, matrix, running_rank, running_vote

DRAWS = st.lists(st.lists(st.integers(-1, 4), min_size=7, max_size=7), min_size=1, max_size=5)


def plain(row, count):
    return ranked([None if c == NONE else c for c in row[:count]])


@given(DRAWS)
def test_every_prefix_is_counted_as_by_hand(rows):
    draws = np.array(rows, np.int64)
    votes, ranks = running_vote(draws), running_rank(draws, np.full(len(rows), 2, np.int64))
    counts = leaders(draws, 3)
    for image, row in enumerate(rows):
        for j in range(7):
            order = plain(row, j + 1)
            assert votes[image, j] == (order[0] if order else NONE)
            assert ranks[image, j] == (order.index(2) + 1 if 2 in order else 0)
            tally = Counter(c for c in row[: j + 1] if c != NONE)
            assert counts[image, j].tolist() == [*(n for _, n in tally.most_common(3)), 0, 0, 0][:3]


@given(DRAWS, st.integers(1, 3))
def test_no_rest_of_the_draws_changes_settled_options(rows, k):
    draws = np.array(rows, np.int64)
    rng = random.Random(0)
    for row, stop in zip(rows, draws_until_settled(leaders(draws, k + 1)), strict=True):
        known = plain(row, stop)[:k]
        for _ in range(30):
            assert plain(row[:stop] + [rng.randint(-1, 4) for _ in range(7 - stop)], 7)[:k] == known


def test_a_vote_is_decided_once_chance_is_unlikely():
    draws = np.array([[3, 3, 3, 3, 3, 1], [3, 1, 3, 1, 3, 1], [NONE] * 6], np.int64)
    # After n equal votes the chance of p > q is 1 - 2 ** -(n + 1): 0.969 after 4.
    assert draws_until_decided(leaders(draws, 2), 0.95).tolist() == [4, 6, 6]
    assert draws_until_decided(leaders(draws, 2), 0.7).tolist() == [1, 1, 6]


def test_the_posterior_is_the_share_of_simulated_worlds():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet([1, 1, 1], 100_000)
    draws = rng.random((100_000, 6))
    named = (draws > shares[:, :1]).astype(int) + (draws > shares[:, :2].sum(axis=1)[:, None])
    seen = (named[:, :5] == [0, 0, 0, 0, 1]).all(axis=1)
    truly = (shares[seen, 0] > shares[seen, 1]).mean()
    assert truly == pytest.approx(1 - 7 / 64, abs=0.02)  # Beta(5, 2) > 1/2
    row = np.array([[0, 0, 0, 0, 1]], np.int64)
    assert draws_until_decided(leaders(row, 2), truly - 0.03)[0] <= 5


def test_lists_of_several_lengths_become_one_matrix():
    lists = pl.Series([[1, None, 2], [3], []], dtype=pl.List(pl.Int64))
    assert matrix(lists).tolist() == [[1, NONE, 2], [3, NONE, NONE], [NONE, NONE, NONE]]
    assert matrix(lists.clear()).shape == (0, 1)
    assert running_vote(matrix(lists))[:, -1].tolist() == [1, 3, NONE]
