"""Training: every setting reaches TRL, nothing novel is trained on, the log becomes a table of curves."""

from dataclasses import fields, replace

import polars as pl
import pytest

from pipeline import params, tables
from pipeline.params import UserError
from pipeline.train import CURVES, TrainParams, config, curves, require_base_only

DEFAULTS = params.load(TrainParams)
# Not TRL's to know: what is loaded, how it is asked, how many threads.
OTHERS = {"model", "prompt", "noun", "attention", "threads"}


def another(field, value):
    choices = field.metadata["one_of"]
    if choices:
        return next(choice for choice in choices if choice != value)
    if isinstance(value, bool):
        return not value
    if field.name in ("prompts_per_step", "prompts_per_device"):
        return value // 2
    return value / 2 if isinstance(value, float) and value else value + 1


@pytest.mark.parametrize("field", [f for f in fields(TrainParams) if f.name not in OTHERS], ids=lambda f: f.name)
def test_every_setting_reaches_trl(field, tmp_path):
    changed = replace(DEFAULTS, **{field.name: another(field, getattr(DEFAULTS, field.name))})
    assert config(changed, str(tmp_path)).to_dict() != config(DEFAULTS, str(tmp_path)).to_dict()


def test_trl_counts_completions_where_we_count_prompts(tmp_path):
    wanted = replace(DEFAULTS, prompts_per_step=6, prompts_per_device=2, generations=4)
    found = config(wanted, str(tmp_path))
    assert found.per_device_train_batch_size == 2 * 4
    assert found.gradient_accumulation_steps == 3
    assert found.generation_batch_size == 6 * 4


def test_what_trl_would_choose_otherwise_than_the_paper(tmp_path):
    found = config(DEFAULTS, str(tmp_path))
    assert (found.beta, found.loss_type, found.scale_rewards) == (0.04, "grpo", "group")
    assert found.use_bias_correction_kl is False
    assert found.gradient_checkpointing is False
    assert found.num_iterations == 1


def test_prompts_that_do_not_divide_are_refused(tmp_path):
    with pytest.raises(UserError, match="multiple"):
        config(replace(DEFAULTS, prompts_per_step=6, prompts_per_device=4), str(tmp_path))


def question(truth, *options):
    return {
        "image_id": "x",
        "dataset": "d",
        "class_id": truth,
        "options": [{"class_id": c, "name": str(c), "votes": 1, "rank": 1, "source": "draws"} for c in options],
        "answer": "A",
        "truth_rank": 1,
        "truth_votes": 1,
        "valid_draws": 2,
        "distinct": 2,
    }


CLASSES = pl.DataFrame(
    [
        {"dataset": "d", "class_id": c, "name": f"class {c}", "split": "base" if c < 2 else "novel", "aliases": []}
        for c in range(4)
    ],
    schema=tables.CLASSES.schema,
)


@pytest.mark.parametrize(("truth", "options"), [(0, (0, 2)), (3, (0, 1))])
def test_a_novel_class_in_a_training_question_stops_it(truth, options):
    hard = pl.DataFrame([question(truth, *options)], schema=tables.HARD.schema)
    with pytest.raises(UserError, match=r"novel class 'class [23]'.* of image x"):
        require_base_only(hard, CLASSES)


def test_base_questions_pass():
    require_base_only(pl.DataFrame([question(0, 0, 1)], schema=tables.HARD.schema), CLASSES)


def test_curves_are_one_line_a_step():
    log = [
        {"step": 1, "rewards/letter_reward/mean": 0.123456789, "entropy": 0.5},
        {"step": 2, "rewards/letter_reward/mean": 0.25, "kl": 1e-9},
        {"train_runtime": 1.0},
    ]
    lines = curves(log).splitlines()
    assert lines[0].split(",") == list(CURVES.values())
    assert [line.split(",")[:2] for line in lines[1:]] == [["1", "0.123457"], ["2", "0.25"]]
