"""The reference model of the KL term, which TRL loads by itself."""

from dataclasses import replace

import polars as pl
import pytest
from support.families import noise
from support.training import DEFAULTS, LISTS, question, questions

from pipeline.engines.common.loading import load_model, load_processor
from pipeline.engines.common.patch_embedding import PATCH_CONVOLUTIONS
from pipeline.training.checkpoints import RunFolder
from pipeline.training.examples import examples
from pipeline.training.rollouts import Rollouts
from pipeline.training.run import policy_trainer
from pipeline.training.trl_adapter import set_reference

pytestmark = pytest.mark.slow


def test_it_embeds_patches_as_the_policy_does(base_model, tmp_path):
    params = replace(DEFAULTS, tuning="full", beta=0.04, steps=1, prompts_per_step=1, prompts_per_device=1)
    hard = questions(question(0, 0, 1)).with_columns(pl.Series("image", [noise(0)]))
    processor, model = load_processor(base_model), load_model(base_model, "float32", "eager")
    set_reference(model, base_model)
    folder, names = RunFolder(tmp_path), Rollouts(("letter", "format"))
    dataset = examples(hard, LISTS, params)
    trainer = policy_trainer(dataset, params, model, processor, folder, 1, 0, [len, len], names)
    kinds = [{type(module) for module in one.modules()} for one in (trainer.model, trainer.ref_model)]
    assert kinds[0] == kinds[1]
    assert kinds[0].intersection(PATCH_CONVOLUTIONS.values())
