"""The completions of training: how they are drawn, and the record of them."""

from dataclasses import replace

import polars as pl
import pytest
from support.families import noise
from support.training import DEFAULTS, completion

from pipeline.core import tables
from pipeline.engines.common.loading import load_model, load_processor
from pipeline.training.rollouts import RolloutGenerator, Rollouts


@pytest.mark.slow
def test_a_model_that_recomputes_activations_shares_its_prompts_all_the_same(base_model):
    """Layers that do it keep no keys and values, but only while they are trained."""
    model, processor = load_model(base_model, "float32", "eager"), load_processor(base_model)
    model.train()
    model.activation_checkpointing_enable()
    generator = RolloutGenerator(model, processor, replace(DEFAULTS, max_completion_length=4))
    row = {"image_id": "x", "picture": noise(0), "prompt": [{"role": "user", "content": "Which bird ?"}]}
    assert [len(ids) for ids in generator.generate([row, row], step=1)] == [4, 4]
    assert generator.engine.way.name == "shared" and model.training


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
