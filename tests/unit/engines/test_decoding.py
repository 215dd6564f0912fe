"""Which rows follow a step of decoding."""

import pytest
import torch

from pipeline.engines.local.decoding import next_rows

pytestmark = pytest.mark.slow

LARGE = 2**31 - 2  # as a token id


@pytest.mark.parametrize(
    ("row", "token", "count", "parents", "tokens", "after"),
    [
        ([0, 0, 1], [5, 5, 6], 2, None, [5, 6], [0, 0, 1]),  # alike so far
        ([0, 0, 1], [5, 4, 6], 2, [0, 0, 1], [4, 5, 6], [1, 0, 2]),  # parted
        ([0, 0, 1], [LARGE, 0, LARGE], 2, [0, 0, 1], [0, LARGE, LARGE], [1, 0, 2]),
        ([0, 1, 2, 3], [9, 9, 9, 9], 4, None, [9, 9, 9, 9], [0, 1, 2, 3]),  # alike in several rows: not one
        ([0, 1, 3, 4], [7, 8, 9, 6], 5, None, [7, 8, 7, 9, 6], [0, 1, 3, 4]),  # one of five has ended, and lingers
        ([0, 1, 3], [7, 8, 9], 4, [0, 1, 3], [7, 8, 9], [0, 1, 2]),  # one of four is a quarter
        ([1, 1, 2, 3, 4], [3, 2, 5, 5, 5], 5, [1, 1, 2, 3, 4], [2, 3, 5, 5, 5], [1, 0, 2, 3, 4]),  # copied anyway
        ([], [], 3, [], [], []),
    ],
)
def test_rows_part_and_end(row, token, count, parents, tokens, after):
    step, rows = next_rows(torch.tensor(row, dtype=torch.int64), torch.tensor(token, dtype=torch.int64), count)
    assert (step.parents if step.parents is None else step.parents.tolist()) == parents
    assert step.tokens.tolist() == tokens
    assert rows.tolist() == after
