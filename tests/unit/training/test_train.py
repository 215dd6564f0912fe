"""Training: every setting reaches TRL, order and checks are what they say, the log becomes a table of curves."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import polars as pl
import pytest
import torch

from pipeline.core import tables
from pipeline.core.params import UserError, load_params
from pipeline.method.class_lists import ClassLists
from pipeline.method.image_sets import validation_images
from pipeline.method.rewards import name_reward, rewards, string_reward
from pipeline.method.two_steps import TwoStepParams
from pipeline.training import rounds
from pipeline.training.checkpoints import COMPLETE, RunFolder
from pipeline.training.config import accumulation, grpo_config
from pipeline.training.curves import CURVES, curves
from pipeline.training.examples import require_enough
from pipeline.training.monitor import DivergenceError, TrainingMonitor
from pipeline.training.order import Order
from pipeline.training.params import TrainParams
from pipeline.training.rollouts import Rollouts
from pipeline.training.round_statistics import round_statistics
from pipeline.training.rounds import join_logs, with_pictures
from pipeline.training.run import RunLog
from pipeline.training.saving import save_model
from pipeline.training.trl_adapter import require_finite
from pipeline.training.tuning import adapter, freeze, tower_of

DEFAULTS = load_params(TrainParams)


def config(wanted, folder):
    return grpo_config(wanted, Path(folder), wanted.steps)


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
    "rollout_temperature": "temperature",
    "rollout_top_p": "top_p",
    "rollout_top_k": "top_k",
    "rollout_repetition_penalty": "repetition_penalty",
    "max_completion_length": "max_completion_length",
    "drop_truncated": "mask_truncated_completions",
    "gradient_checkpointing": "gradient_checkpointing",
    "seed": "seed",
}
"""Our name of a setting and TRL's."""

# Not TRL's to know, or not under one name: each has a test of its own here or in tests/test_training.py.
ELSEWHERE = {
    *("prompts_per_step", "prompts_per_device", "letter_weight", "format_weight", "precision", "clip_high", "rollouts"),
    *("method", "virft_reward", "rounds", "tuning", "lora_rank", "lora_alpha", "lora_dropout", "freeze", "weights"),
    *("check_every", "check_images", "check_samples", "max_kl", "launcher", "launch_config", "drop_flat_groups"),
    *("vllm_url", "model", "attention", "max_rows", "max_tokens", "threads", "hash_distance"),
}
OF_THE_STEPS = {field.name for field in fields(TwoStepParams)} - {"seed"}


def another(field, value):
    choices = field.metadata["one_of"]
    if choices:
        return next(choice for choice in choices if choice != value)
    if isinstance(value, bool):
        return not value
    return value / 2 if isinstance(value, float) and value else value + 1


def test_every_setting_has_its_test():
    assert {field.name for field in fields(TrainParams)} == {*NAMES, *ELSEWHERE, *OF_THE_STEPS}


@pytest.mark.parametrize("field", [f for f in fields(TrainParams) if f.name in NAMES], ids=lambda f: f.name)
def test_every_setting_reaches_trl_under_its_name(field, tmp_path):
    wanted = another(field, getattr(DEFAULTS, field.name))
    found = getattr(config(replace(DEFAULTS, **{field.name: wanted}), str(tmp_path)), NAMES[field.name])
    assert found == wanted


def test_weights_belong_to_the_rewards_in_their_order(tmp_path):
    found = config(replace(DEFAULTS, letter_weight=3.0, format_weight=0.5), tmp_path)
    names = [reward.__name__ for reward in rewards("divek", "matcher", LISTS)]
    assert dict(zip(names, found.reward_weights, strict=True)) == {"letter_reward": 3.0, "format_reward": 0.5}


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


def test_questions_come_with_their_pictures():
    hard = pl.DataFrame([question(0, 0, 1), question(0, 0, 1) | {"image_id": "y"}], tables.HARD.schema)
    images = pl.DataFrame({"image_id": ["y", "z", "x"], "image": [b"Y", b"Z", b"X"]})
    assert with_pictures(hard, images).select("image_id", "image").rows() == [("x", b"X"), ("y", b"Y")]


def test_fewer_questions_than_a_step_needs_are_refused():
    rows = pl.DataFrame([question(0, 0, 1)], schema=tables.HARD.schema)
    with pytest.raises(UserError, match=r"1 questions do not fill a step of train\.prompts_per_step = 16"):
        require_enough(rows, DEFAULTS)
    require_enough(rows, replace(DEFAULTS, prompts_per_step=1))


def test_curves_are_one_line_a_step_with_the_checks():
    log = [
        {"step": 1, "rewards/letter_reward/mean": 0.123456789, "entropy": 0.5, "learning_rate": 1e-5},
        {"step": 2, "rewards/name_reward/mean": 0.25, "kl": 1e-9, "learning_rate": 0.0},
        {"train_runtime": 1.0},
    ]
    lines = [line.split(",") for line in curves(log, {2: 0.75}).splitlines()]
    assert lines[0] == list(CURVES.values())
    assert [line[:2] for line in lines[1:]] == [["1", "0.123457"], ["2", "0.25"]]
    assert [line[-1] for line in lines[1:]] == ["", "0.75"]


# --- The order ---


@pytest.mark.parametrize(("questions", "prompts"), [(10, 3), (6, 6), (7, 1), (16, 4)])
def test_every_pass_has_each_question_once_and_no_step_has_one_twice(questions, prompts):
    order = Order(questions, prompts, batches=12, seed=3)
    in_pass = questions // prompts
    passes = [[q for n in range(p * in_pass, (p + 1) * in_pass) for q in order.batch(n)] for p in range(3)]
    for found in passes:
        assert len(set(found)) == len(found) == in_pass * prompts and set(found) <= set(range(questions))
    assert questions == 6 or passes[0] != passes[1], "another order in every pass"
    assert [order.batch(n) for n in range(12)] != [Order(questions, prompts, 12, seed=4).batch(n) for n in range(12)]


def test_the_loader_is_given_groups_and_repeats():
    order = Order(5, 2, batches=2, generations=3, repeats=2, seed=0)
    first, second = order.batch(0), order.batch(1)
    group = lambda batch: [q for q in batch for _ in range(3)]  # noqa: E731
    assert list(order) == group(first) * 2 + group(second) * 2 and len(order) == len(list(order))


def test_a_later_round_goes_on_in_the_order():
    whole = list(Order(10, 3, batches=8, seed=3))
    assert whole == list(Order(10, 3, batches=5, seed=3)) + list(Order(10, 3, batches=3, seed=3, first=5))


def test_too_few_questions_are_no_order():
    with pytest.raises(ValueError, match="3 questions do not fill a step of 4"):
        Order(3, 4, 1)


# --- Checks, checkpoints, rollouts ---


def test_validation_images_are_of_base_classes_and_spread_over_them():
    classes = pl.DataFrame({"dataset": ["d"] * 4, "class_id": range(4), "subset": ["base"] * 3 + ["novel"]})
    images = pl.DataFrame(
        [
            {"image_id": f"{c}{split}{n}", "dataset": "d", "class_id": c, "split": split}
            for c in range(4)
            for split in ("train", "val", "test")
            for n in range(5)
        ]
    )
    found = validation_images(images, classes, 7)
    assert set(found["split"]) == {"val"} and set(found["class_id"]) == {0, 1, 2} and found.height == 7
    assert max(found["class_id"].value_counts()["count"]) == 3
    assert validation_images(images, classes, 99).height == 15 and validation_images(images, classes, 0).height == 0


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr("pipeline.training.checkpoints.content", lambda model: f"content of {model}")
    rows = pl.DataFrame([question(0, 0, 1)], schema=tables.HARD.schema).with_columns(image=pl.lit(b"x"))
    return lambda wanted=DEFAULTS, rows=rows: RunFolder.of(wanted, rows, pl.DataFrame({"image_id": ["v"]}))


def test_a_run_of_other_settings_or_questions_has_another_folder(work):
    others = [replace(DEFAULTS, learning_rate=1e-4), replace(DEFAULTS, seed=1), replace(DEFAULTS, model="other")]
    rows = pl.DataFrame([question(0, 0, 2)], schema=tables.HARD.schema)
    folders = [work().path, *(work(wanted).path for wanted in others), work(rows=rows).path]
    assert len(set(folders)) == 5 and work().path == folders[0]


def test_only_whole_checkpoints_are_gone_on_with(work):
    found = work()
    assert found.last() is None
    for number in (2, 4, 10):
        (found.path / f"checkpoint-{number}").mkdir(parents=True)
    found.complete(found.path / "checkpoint-2", {"checks": {"2": 0.5}, "rollouts": []})
    assert found.last().name == "checkpoint-2", "the others are not whole"
    found.complete(found.path / "checkpoint-4", {"checks": {}, "rollouts": []})
    assert found.last().name == "checkpoint-4"
    assert sorted(path.name for path in found.path.iterdir()) == ["checkpoint-10", "checkpoint-4"]
    found.complete(found.path / "checkpoint-10", {"checks": {"4": 0.25}, "rollouts": []})
    assert found.last().name == "checkpoint-10" and RunFolder.progress(found.last())["checks"] == {"4": 0.25}
    assert json.loads((found.last() / COMPLETE).read_text())


def completion(image, text, letter=1.0, form=1.0, advantage=0.5):
    rewards = {"letter_reward": letter, "format_reward": form}
    return {"image_id": image, "options": ["wren", "owl"], "text": text, "rewards": rewards, "advantage": advantage}


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


class State:
    """As much of the trainer's state as the watch looks at."""

    def __init__(self, step, steps=20):
        self.global_step, self.max_steps, self.is_world_process_zero = step, steps, True


class Control:
    should_save = False


def watching(work, scores, rollouts=None, **more):
    said, saved = [], []
    folder = work()
    folder.path.mkdir(parents=True, exist_ok=True)
    check = (lambda model: scores.pop(0)) if scores is not None else None

    def save(model, path):
        saved.append((path / "w").write_text("w"))

    return TrainingMonitor(folder, 5, check, save, rollouts, 5.0, log=said.append), said, saved


def test_the_best_weights_are_kept_and_the_later_ones_of_two_equals(work):
    watch, said, saved = watching(work, [0.5, 0.4, 0.5, 0.6])
    kept = []
    for step in range(1, 21):
        control = Control()
        before = len(saved)
        watch.on_step_end(None, State(step), control)
        assert control.should_save == (step % 5 == 0)
        kept += [step] * (len(saved) - before)
    assert kept == [5, 15, 20] and watch.checks == {5: 0.5, 10: 0.4, 15: 0.5, 20: 0.6}
    assert said[1] == "step 10: 40.0% of the validation images right in two steps"
    assert said[2].endswith("the best so far")


def test_without_validation_images_the_last_weights_are_kept(work):
    watch, said, saved = watching(work, None)
    for step in (5, 10, 20):
        watch.on_step_end(None, State(step), Control())
    assert len(saved) == 3 and said == []


LOGS = {
    "learning_rate": 1e-5, "loss": 0.1, "frac_reward_zero_std": 0.25, "completions/mean_length": 30.0, "entropy": 0.05,
    "kl": 0.01, "rewards/letter_reward/mean": 0.5, "rewards/format_reward/mean": 1.0,
}  # fmt: skip


def test_a_letter_that_takes_over_is_an_alarm(work):
    rollouts = Rollouts(("letter_reward", "format_reward"))
    for step in range(1, 13):
        rollouts(step, [completion("a", "<answer>A</answer>")] * 3 + [completion("b", "<answer>B</answer>")])
    watch, said, _ = watching(work, [], rollouts)
    watch.on_log(None, State(12), None, LOGS)
    assert said[0].startswith(
        "step 12/20: right 0.50, format 1.00, groups without variance 0.25, length 30, entropy 0.050, KL 0.0100"
    )
    assert "A 75% B 25%" in said[0] and "WARNING: the policy prefers the letter A" in said[0]
    even = Rollouts(("letter_reward", "format_reward"))
    for step in range(1, 13):
        even(step, [completion("a", "<answer>A</answer>"), completion("b", "<answer>B</answer>")])
    watch, said, _ = watching(work, [], even)
    watch.on_log(None, State(12), None, LOGS)
    assert "WARNING" not in said[0]


@pytest.mark.parametrize("kl", [5.1, float("nan"), float("inf")])
def test_a_policy_that_comes_apart_stops(work, kl):
    watch, _, _ = watching(work, [], Rollouts(("letter_reward", "format_reward")))
    with pytest.raises(DivergenceError, match="nats per token from the base model after step 3"):
        watch.on_log(None, State(3), None, LOGS | {"kl": kl})


def test_a_loss_that_is_no_number_stops_before_the_step():
    require_finite(torch.tensor(1.0), 1)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(DivergenceError, match="the loss of step 7 is"):
            require_finite(torch.tensor(bad), 7)


# --- Methods and weights ---

NAMED = [
    (0, "Arctic Tern", "base", ["Sterna paradisaea"]),
    (1, "Common Tern", "base", []),
    (2, "Owl", "novel", []),
]
LISTS = ClassLists(
    pl.DataFrame(
        [
            {"dataset": "d", "class_id": c, "name": name, "subset": subset, "aliases": aliases, "noun": "bird"}
            for c, name, subset, aliases in NAMED
        ],
        schema=tables.CLASSES.schema,
    )
)  # fmt: skip

SAID = [
    ("<answer>arctic-tern</answer>", 1.0, 0.0, "the published code drops blanks and underscores, not hyphens"),
    ("<answer>Sterna paradisaea</answer>", 1.0, 0.0, "an alias"),
    ("<answer>Arctic_Tern</answer>", 1.0, 1.0, "both"),
    ("<answer>tern</answer>", 0.0, 1.0, "a part of the name is right for the published code"),
    ("<answer>Common Tern</answer>", 0.0, 0.0, "another class"),
    ("Arctic Tern", 0.0, 0.0, "no answer"),
]


@pytest.mark.parametrize(("text", "matcher", "string", "reason"), SAID)
def test_open_answers_are_rewarded_by_the_matcher_or_as_the_published_code_compares(text, matcher, string, reason):
    chat = [[{"role": "assistant", "content": text}]]
    assert name_reward(LISTS)(chat, dataset=["d"], class_id=[0]) == [matcher], reason
    assert string_reward(chat, name=["Arctic Tern"]) == [string], reason


def test_each_method_has_its_rewards():
    assert [r.__name__ for r in rewards("divek", "matcher", LISTS)] == ["letter_reward", "format_reward"]
    assert [r.__name__ for r in rewards("virft", "matcher", LISTS)] == ["name_reward", "format_reward"]
    assert [r.__name__ for r in rewards("virft", "string", LISTS)] == ["string_reward", "format_reward"]


@pytest.mark.parametrize(
    ("name", "tower"),
    [
        ("model.visual.blocks.0.attn.qkv.weight", "vision"),
        ("model.visual.merger.mlp.0.weight", "bridge"),
        ("model.vision_tower.encoder.layers.0.mlp.fc1.weight", "vision"),
        ("model.multi_modal_projector.mm_input_projection_weight", "bridge"),
        ("model.connector.modality_projection.proj.weight", "bridge"),
        ("model.language_model.layers.0.mlp.up_proj.weight", "text"),
        ("lm_head.weight", "text"),
    ],
)
def test_towers_are_told_by_name(name, tower):
    assert tower_of(name) == tower


def test_towers_are_frozen(base_model):
    from pipeline.engines.common.loading import load_model

    for towers, trained in (
        ((), {"vision", "bridge", "text"}),
        (("vision",), {"bridge", "text"}),
        (("text",), {"vision", "bridge"}),
    ):
        model = load_model(base_model, "float32", "eager")
        freeze(model, towers)
        assert {tower_of(name) for name, weights in model.named_parameters() if weights.requires_grad} == trained
    with pytest.raises(UserError, match=r"train\.freeze names 'audio', but there are only vision, text"):
        freeze(model, ("audio",))


def test_low_rank_additions_are_put_on_the_towers_that_are_not_frozen(base_model):
    from pipeline.engines.common.loading import load_model

    model = load_model(base_model, "float32", "eager")
    assert adapter(model, DEFAULTS) is None
    found = adapter(
        model, replace(DEFAULTS, tuning="lora", lora_rank=4, lora_alpha=12, lora_dropout=0.25, freeze=("vision",))
    )
    assert (found.r, found.lora_alpha, found.lora_dropout) == (4, 12, 0.25)
    assert {tower_of(f"{name}.weight") for name in found.target_modules} == {"text", "bridge"}
    assert not any("lm_head" in name for name in found.target_modules)
    everywhere = adapter(model, replace(DEFAULTS, tuning="lora"))
    assert len(everywhere.target_modules) > len(found.target_modules)


def test_saving_low_rank_additions_leaves_the_weights_as_they_are(base_model, tmp_path):
    """Merging in place and taking off again would not, in 16 bits."""
    from peft import get_peft_model

    from pipeline.engines.common.loading import load_model, load_processor

    model = load_model(base_model, "bfloat16", "eager")
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    wanted = get_peft_model(model, adapter(model, replace(DEFAULTS, tuning="lora", lora_rank=4)))
    torch.manual_seed(0)
    for name, weights in wanted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.02)
    save_model(wanted, load_processor(base_model), tmp_path)
    after = {name.replace(".base_layer", ""): weights for name, weights in model.state_dict().items()}
    assert all(torch.equal(after[name], weights) for name, weights in before.items())
    saved = load_model(str(tmp_path), "bfloat16", "eager").state_dict()
    assert saved.keys() == before.keys()
    name = "model.visual.blocks.0.attn.qkv"
    delta = model.get_submodule(name).get_delta_weight("default").float()
    assert delta.abs().max() > 1e-3
    assert torch.equal(saved[f"{name}.weight"], (before[f"{name}.weight"].float() + delta).bfloat16())


def test_clip_and_vllm_reach_trl(tmp_path):
    assert config(DEFAULTS, tmp_path).epsilon_high == DEFAULTS.clip
    assert config(replace(DEFAULTS, clip_high=0.28), tmp_path).epsilon_high == 0.28
    assert config(DEFAULTS, tmp_path).use_vllm is False


def test_processes_share_the_prompts_of_a_step(monkeypatch):
    wanted = replace(DEFAULTS, prompts_per_step=16, prompts_per_device=4)
    for processes, found in (("1", (4, 4)), ("2", (4, 2)), ("4", (4, 1)), ("8", (2, 1))):
        monkeypatch.setenv("WORLD_SIZE", processes)
        assert accumulation(wanted) == found
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(
        UserError, match=re.escape("but must be a multiple of 4 (train.prompts_per_device) × 3 (processes)")
    ):
        accumulation(wanted)


# --- Rounds ---


def test_rounds_say_how_the_options_moved():
    before = pl.DataFrame([question(0, 0, 1), question(0, 0, 1) | {"image_id": "y"}], schema=tables.HARD.schema)
    after = pl.DataFrame([question(0, 0, 2), question(0, 0, 1) | {"image_id": "z"}], schema=tables.HARD.schema)
    assert round_statistics(before, None)["jaccard"] is None and round_statistics(before, None)["pass@1"] == 0.5
    assert round_statistics(before, None)["hard"] == 2
    assert round_statistics(after, before)["jaccard"] == round(1 / 3, 4)
    assert round_statistics(after, before)["questions"] == 2


@pytest.mark.parametrize(
    ("scores", "best", "reason"),
    [
        ([0.7, 0.65], 1, "the second round lost something"),
        ([0.7, 0.7], 2, "the later one of two equals"),
        ([0.6, 0.7], 2, "the second is better"),
        ([None, None], 2, "nothing to choose by: the last weights"),
    ],
)
def test_the_best_weights_of_all_rounds_are_kept(monkeypatch, tmp_path, scores, best, reason):
    left = iter(scores)

    def one_round(*_):
        score = next(left)
        return RunLog([], [], {} if score is None else {1: score})

    asked = pl.DataFrame([question(0, 0, 1)], schema=tables.HARD.schema)
    monkeypatch.setattr(rounds, "train_round", one_round)
    monkeypatch.setattr(rounds, "redraw_questions", lambda *_: asked)
    monkeypatch.setattr(rounds, "with_pictures", lambda hard, _: hard)
    wanted = replace(DEFAULTS, rounds=2, prompts_per_step=1)
    classes = pl.DataFrame(schema=tables.CLASSES.schema)
    material = rounds.TrainingData(asked, asked, lambda: asked, asked, classes)
    found = rounds.train(material, wanted, RunFolder(tmp_path))
    assert found.best == RunFolder(tmp_path).inner(f"round-{best}").best, reason


def test_steps_are_numbered_through():
    part = RunLog([{"step": 1, "loss": 1.0}], [{"step": 1, "image_id": "a"}], {1: 0.5})
    whole = join_logs(join_logs(RunLog([], [], {}), part, 0), part, 10)
    assert [entry["step"] for entry in whole.history] == [1, 11] and whole.checks == {1: 0.5, 11: 0.5}
    assert [row["step"] for row in whole.rollouts] == [1, 11]
