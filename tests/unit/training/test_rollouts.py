"""The record of completions."""

import polars as pl
from support.training import completion

from pipeline.core import tables
from pipeline.training.rollouts import Rollouts


def test_every_completion_is_a_row():
    rollouts = Rollouts(("letter_reward", "format_reward"))
    rollouts(
        1, [completion("a", "<answer>A</answer>"), completion("a", "?", 0.0), completion("b", "<answer>owl</answer>")]
    )
    rollouts(2, [completion("a", "<answer>C</answer>", 0.0)])
    table = pl.DataFrame(rollouts.rows, schema=tables.ROLLOUTS.schema)
    keys = [(1, "a", 0, "A"), (1, "a", 1, None), (1, "b", 0, "B"), (2, "a", 0, None)]
    assert table.select("step", "image_id", "rollout", "letter").rows() == keys
    assert table["answer_reward"].to_list() == [1.0, 0.0, 1.0, 0.0] and rollouts.letters(2) == {"A": 1, "B": 1}
