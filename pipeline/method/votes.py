"""Counting votes, for all images at once and after every number of draws: what fewer draws would have given.

Draws are matrices of class ids with a row for each image; NONE (-1) is a draw that names no class, or one never drawn.
A tie goes to the class that was drawn first.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]

NONE = -1
SLACK = 1e-9  # of votes: 0.7 of 10 is 7, whatever the floating point says


def matrix(lists: pl.Series) -> Ints:
    """(images, longest list): a column of lists of class ids; null and missing entries are -1."""
    width = max(1, int(lists.list.len().max() or 0))  # type: ignore[arg-type]
    padded = lists.cast(pl.List(pl.Int64)).list.eval(pl.element().fill_null(NONE))
    rows = [padded.list.get(place, null_on_oob=True).fill_null(NONE).to_numpy() for place in range(width)]
    return np.stack(rows, axis=1) if lists.len() else np.empty((0, width), np.int64)


def _tallies(draws: Ints) -> Iterator[NDArray[np.uint16]]:
    """After each draw the votes, (K, images), those of a class at its first draw: the same array again and again."""
    columns, images = np.ascontiguousarray(draws.T), np.arange(len(draws))
    votes = np.zeros(columns.shape, np.uint16)
    for number, drawn in enumerate(columns):
        first = (columns[: number + 1] == drawn).argmax(axis=0)
        votes[first, images] += drawn != NONE
        yield votes


def ranking(draws: Ints) -> tuple[Ints, Ints]:
    """Classes named in all draws and their votes, both (images, K): most votes first, then -1 with 0 votes."""
    *_, tallies = _tallies(draws)
    counts = tallies.T.astype(np.int64)
    order = np.argsort(-counts, axis=1, kind="stable")
    votes = np.take_along_axis(counts, order, axis=1)
    return np.where(votes > 0, np.take_along_axis(draws, order, axis=1), NONE), votes


def running_vote(draws: Ints) -> Ints:
    """(images, K): the class with the most votes after each draw; -1 where none was named."""
    result, images = np.empty_like(draws), np.arange(len(draws))
    for number, votes in enumerate(_tallies(draws)):
        most, first = votes[0].copy(), np.zeros(len(draws), np.int64)
        for place in range(1, number + 1):  # in the order of the first draws, which settles a tie
            first[votes[place] > most] = place
            np.maximum(most, votes[place], out=most)
        result[:, number] = np.where(most > 0, draws[images, first], NONE)
    return result


def running_rank(draws: Ints, classes: Ints) -> Ints:
    """(images, K): place, from 1, of the image's class in `classes` among those named so far; 0 where it is not."""
    result, images = np.zeros_like(draws), np.arange(len(draws))
    is_own = (draws == classes[:, None]) & (draws != NONE)
    own_place = np.where(is_own.any(axis=1), is_own.argmax(axis=1), draws.shape[1])
    for number, votes in enumerate(_tallies(draws)):
        so_far = own_place <= number
        own = np.where(so_far, votes[np.minimum(own_place, number), images], 0)
        ahead = np.ones(len(draws), np.uint16)
        for place in range(number + 1):
            ahead += (votes[place] > own) | ((votes[place] == own) & (place < own_place))
        result[:, number] = np.where(so_far, ahead, 0)
    return result


def leaders(draws: Ints, count: int) -> Ints:
    """(images, K, count): votes of the `count` leading classes after each draw, most first; 0 where fewer are named."""
    result = np.empty((*draws.shape, count), np.int64)
    for number, votes in enumerate(_tallies(draws)):
        most = np.zeros((count, len(draws)), np.uint16)
        for place in range(number + 1):
            new = votes[place]
            for row in most:  # each of the leaders keeps the larger one and hands the smaller one on
                row[:], new = np.maximum(row, new), np.minimum(row, new)
        result[:, number] = most.T
    return result


def fewest_holding(votes: Ints, cast: Ints, mass: float) -> Ints:
    """(…): how many of the leading classes hold the share `mass` of the votes cast; all of them where these hold less.

    Args:
        votes: (…, classes) of the leading classes, most first.
        cast: (…) all votes.
    """
    enough = votes.cumsum(axis=-1) >= mass * cast[..., None] - SLACK
    fewest = np.where(enough.any(axis=-1), enough.argmax(axis=-1) + 1, votes.shape[-1])
    return np.asarray(np.minimum(fewest, (votes > 0).sum(axis=-1)), np.int64)
