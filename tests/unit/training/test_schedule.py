"""The learning rate of every step: one schedule over all rounds, in either trainer, and its floor."""

from dataclasses import replace

import polars as pl
import pytest
from support.families import noise
from support.training import DEFAULTS, LISTS, question, questions

from pipeline.engines.common.loading import load_model, load_processor
from pipeline.training.checkpoints import RunFolder
from pipeline.training.run import run

pytestmark = pytest.mark.slow

FLOOR = {"schedule": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.25}}
SETTINGS = replace(
    DEFAULTS, prompts_per_step=1, prompts_per_device=1, generations=2, max_completion_length=4, beta=0.0, steps=4,
    warmup_steps=1, learning_rate=1e-4, threads=1,
)  # fmt: skip


def rates(folder, base_model, params, steps, before):
    """The learning rate of these steps."""
    processor, model = load_processor(base_model), load_model(base_model, "float32", "eager")
    hard = questions(question(0, 0, 1)).with_columns(pl.Series("image", [noise(0)]))
    log = run(hard, LISTS, params, model, processor, folder, RunFolder(folder / f"run-{before}"), None, steps, before)
    return [entry["learning_rate"] for entry in log.history if "learning_rate" in entry]


@pytest.mark.parametrize("method", ["divek", "sft"])
@pytest.mark.parametrize("schedule", [{"schedule": "linear"}, FLOOR], ids=["linear", "floor"])
def test_a_further_round_goes_on_with_the_schedule(method, schedule, base_model, tmp_path):
    params = replace(SETTINGS, method=method, **schedule)
    whole = rates(tmp_path, base_model, params, 4, 0)
    assert whole[:2] == [0, 1e-4] and sorted(whole[1:], reverse=True) == whole[1:]
    assert rates(tmp_path, base_model, params, 2, 2) == pytest.approx(whole[2:])
    if schedule is FLOOR:
        assert 0.25e-4 < whole[-1] < 0.5e-4
