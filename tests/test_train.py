"""Training: every setting reaches TRL, nothing novel is trained on, the log becomes a table of curves."""

from dataclasses import fields, replace

import polars as pl
import pytest

from pipeline import params, tables
from pipeline.params import UserError
from pipeline.rewards import REWARDS
from pipeline.train import CURVES, TrainParams, config, curves, pictured, train

DEFAULTS = params.load(TrainParams)
# Not TRL's to know: what is loaded, how it is asked, how many threads, what the gate lets through.
OTHERS = {"model", "prompt", "attention", "threads", "hash_distance"}


NAMES = {
    "steps": "max_steps",
    "generations": "num_generations",
    "learning_rate": "learning_rate",
    "schedule": "lr_scheduler_type",
    "warmup_steps": "warmup_steps",
    "weight_decay": "weight_decay",
    "max_grad_norm": "max_grad_norm",
    "beta": "beta",
    "unbiased_kl": "use_bias_correction_kl",
    "loss_type": "loss_type",
    "scale_rewards": "scale_rewards",
    "updates_per_batch": "num_iterations",
    "clip": "epsilon",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "repetition_penalty": "repetition_penalty",
    "max_completion_length": "max_completion_length",
    "gradient_checkpointing": "gradient_checkpointing",
    "seed": "seed",
}
"""Our name of a setting and TRL's."""

ELSEWHERE = {"prompts_per_step", "prompts_per_device", "letter_weight", "format_weight", "precision"}


def another(field, value):
    choices = field.metadata["one_of"]
    if choices:
        return next(choice for choice in choices if choice != value)
    if isinstance(value, bool):
        return not value
    return value / 2 if isinstance(value, float) and value else value + 1


def test_every_setting_has_its_test():
    assert {field.name for field in fields(TrainParams)} == {*NAMES, *ELSEWHERE, *OTHERS}


@pytest.mark.parametrize("field", [f for f in fields(TrainParams) if f.name in NAMES], ids=lambda f: f.name)
def test_every_setting_reaches_trl_under_its_name(field, tmp_path):
    wanted = another(field, getattr(DEFAULTS, field.name))
    found = getattr(config(replace(DEFAULTS, **{field.name: wanted}), str(tmp_path)), NAMES[field.name])
    assert found == wanted


def test_weights_belong_to_the_rewards_in_their_order(tmp_path):
    found = config(replace(DEFAULTS, letter_weight=3.0, format_weight=0.5), str(tmp_path))
    assert dict(zip([reward.__name__ for reward in REWARDS], found.reward_weights, strict=True)) == {
        "letter_reward": 3.0,
        "format_reward": 0.5,
    }


def test_precision(tmp_path):
    assert [config(replace(DEFAULTS, precision=p), str(tmp_path)).bf16 for p in ("float32", "bfloat16")] == [
        False,
        True,
    ]


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


def test_questions_come_with_their_pictures_and_the_noun_of_their_data_set():
    hard = pl.DataFrame([question(0, 0, 1), question(0, 0, 1) | {"image_id": "y", "dataset": "e"}], tables.HARD.schema)
    images = pl.DataFrame({"image_id": ["y", "z", "x"], "image": [b"Y", b"Z", b"X"]})
    classes = pl.DataFrame({"dataset": ["d", "d", "e"], "noun": ["bird", "bird", "car"]})
    rows = pictured(hard, images, classes)
    assert rows.select("image_id", "image", "noun").rows() == [("x", b"X", "bird"), ("y", b"Y", "car")]


def test_fewer_questions_than_a_step_needs_are_refused_before_anything_is_loaded():
    rows = pl.DataFrame([question(0, 0, 1)], schema=tables.HARD.schema)
    with pytest.raises(UserError, match=r"1 questions, wanted at least train\.prompts_per_step = 16"):
        train(rows, replace(DEFAULTS, model="nowhere/at/all"))


def test_curves_are_one_line_a_step():
    log = [
        {"step": 1, "rewards/letter_reward/mean": 0.123456789, "entropy": 0.5},
        {"step": 2, "rewards/letter_reward/mean": 0.25, "kl": 1e-9},
        {"train_runtime": 1.0},
    ]
    lines = curves(log).splitlines()
    assert lines[0].split(",") == list(CURVES.values())
    assert [line.split(",")[:2] for line in lines[1:]] == [["1", "0.123457"], ["2", "0.25"]]
