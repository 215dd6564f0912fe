"""The train stage, run for real on a few drawn birds: every method, killed, in two processes, and diverged.

In this process, except where processes are killed or work together.
"""

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file
from support.project import ROOT
from support.tiny_models import REFUSAL, thinking_model
from support.workspace import run_stage
from transformers import Qwen2_5_VLProcessor

from pipeline.core import tables
from pipeline.core.params import UserError
from pipeline.fieldguide.rendering import render_tables
from pipeline.method.answers import well_formed
from pipeline.method.options import questions

pytestmark = pytest.mark.slow

SMALL = {
    "prompts_per_step": 4, "prompts_per_device": 4, "generations": 4, "steps": 4, "check_every": 2, "check_images": 6,
    "check_samples": 2, "warmup_steps": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with 24 questions about base birds, each with its siblings as options."""
    folder = tmp_path_factory.mktemp("project")
    classes, images = render_tables(1, 1, 1)
    rng, rows = random.Random(0), []
    base = images.filter((pl.col("split") == "train") & (pl.col("class_id") < 24))
    for image_id, class_id in base["image_id", "class_id"].iter_rows():
        siblings = [other for other in range(class_id // 6 * 6, class_id // 6 * 6 + 6) if other != class_id]
        draws = [class_id, *rng.choices(siblings, k=5)]
        row = {"image_id": image_id, "text": "", "answer": None, "status": "ok", "tokens": 1}
        rows += [row | {"draw": number, "class_id": other} for number, other in enumerate(draws)]
    samples = pl.DataFrame(rows, schema=tables.SAMPLES.schema)
    question_rows = questions(samples, images, classes, 4, 0)
    (folder / "data").mkdir()
    tables.write(tables.CLASSES, classes, folder / "data" / "classes.parquet")
    tables.write(tables.IMAGES, images, folder / "data" / "images.parquet")
    for table in (tables.QUESTIONS, tables.HARD):
        tables.write(table, question_rows, folder / "data" / f"{table.name}.parquet")
    return folder


def prepare(project: Path, folder: Path, **changes) -> None:
    """A project in `folder` with the tables of `project` and these settings of train."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for table in ("classes", "images", "questions", "hard"):
        target = folder / "data" / f"{table}.parquet"
        if not target.exists():
            target.symlink_to(project / "data" / target.name)
    values = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    top = {key: changes.pop(key) for key in list(changes) if key in values}
    values |= {"model": str(ROOT / "models" / "fieldguide"), "num_samples": 4} | top
    values["engine"]["threads"] = changes.pop("threads", 2)
    values["train"] |= SMALL | changes
    YAML().dump(values, folder / "params.yaml")


def start(folder: Path) -> subprocess.Popen:
    """The stage as a process."""
    environment = {name: value for name, value in os.environ.items() if name not in ("DVC_ROOT", "WORLD_SIZE", "RANK")}
    environment |= {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipeline.stages.train"]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(project: Path, folder: Path, **changes) -> str:
    """Runs the stage in this process, and returns what it prints. Raises UserError."""
    prepare(project, folder, **changes)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        run_stage(folder, "train")
    return output.getvalue()


def curves(folder: Path) -> pl.DataFrame:
    """The curves of the steps, without the line of the check before training."""
    return pl.read_csv(folder / "data" / "training.csv").filter(pl.col("step") > 0)


def rollouts(folder: Path) -> pl.DataFrame:
    return tables.read(tables.ROLLOUTS, folder / "data" / "rollouts.parquet")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "models" / "policy" / "model.safetensors")


BASE = load_file(ROOT / "models" / "fieldguide" / "model.safetensors")


@pytest.fixture(scope="module")
def undisturbed(project, tmp_path_factory):
    """An undisturbed run."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, run(project, folder)


def test_it_reports_its_progress_and_leaves_no_unfinished_run(undisturbed):
    folder, output = undisturbed
    assert (
        "step 2: " in output and "of the validation images right in two steps" in output and "step 4/4: right" in output
    )
    assert "divek: 4 steps of 4 prompts × 4 completions; best weights: " in output
    assert list(folder.glob(".work/train/*")) == []
    table = pl.read_csv(folder / "data" / "training.csv")
    assert table["step"].to_list() == [0, 1, 2, 3, 4]
    assert table["validation_two_step"].is_not_null().to_list() == [True, False, True, False, True]


def test_training_changes_weights_and_config_only(undisturbed):
    base, policy = ROOT / "models" / "fieldguide", undisturbed[0] / "models" / "policy"
    names = {file.name for file in base.iterdir()} - {"README.md", "scores.json"}
    assert {file.name for file in policy.iterdir()} == names
    changed = {name for name in names if (policy / name).read_bytes() != (base / name).read_bytes()}
    assert "model.safetensors" in changed and changed <= {"model.safetensors", "config.json"}


def test_every_completion_is_stored_and_the_curves_are_their_means(undisturbed):
    folder, _ = undisturbed
    rows = rollouts(folder)
    assert rows.height == 4 * 4 * 4 and set(rows["rollout"]) == {0, 1, 2, 3}
    means = rows.group_by("step").agg(pl.col("answer_reward").mean(), pl.col("format_reward").mean()).sort("step")
    for name in ("answer_reward", "format_reward"):
        assert means[name].to_list() == pytest.approx(curves(folder)[name].to_list(), abs=1e-5)
    centred = rows.group_by("step", "image_id").agg(pl.col("advantage").mean())["advantage"]
    assert centred.abs().max() < 1e-3, "an advantage is against the mean of its group"
    hard = tables.read(tables.HARD, folder / "data" / "hard.parquet")
    right = rows.join(hard, on="image_id").select((pl.col("letter") == pl.col("answer")).fill_null(False)).to_series()
    assert right.cast(pl.Float64).to_list() == rows["answer_reward"].to_list()


def test_killed_and_run_again_it_ends_as_undisturbed(project, undisturbed, tmp_path):
    prepare(project, tmp_path)
    process = start(tmp_path)
    while process.poll() is None and not list(tmp_path.glob(".work/train/*/round-1/checkpoint-2/complete.json")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert curves(tmp_path)["step"].max() >= 2, "the curves are written while it trains"
    assert "continuing from" in run(project, tmp_path)
    for name in ("data/training.csv", "data/rollouts.parquet", "models/policy/model.safetensors"):
        assert (tmp_path / name).read_bytes() == (undisturbed[0] / name).read_bytes(), name


def test_two_processes_train_as_one(project, tmp_path):
    one = {"precision": "float32", "prompts_per_device": 2, "steps": 2, "threads": 1}
    run(project, tmp_path / "one", **one)
    two = one | {"launcher": "accelerate", "launch_config": str(ROOT / "presets/accelerate/two-cpus.yaml")}
    prepare(project, tmp_path / "two", **two)
    process = start(tmp_path / "two")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    first, second = (rollouts(tmp_path / name) for name in ("one", "two"))
    assert first.select("step", "image_id", "rollout", "text", "answer_reward").equals(
        second.select("step", "image_id", "rollout", "text", "answer_reward")
    )
    first, second = (weights(tmp_path / name) for name in ("one", "two"))
    assert max((first[name] - second[name]).abs().max().item() for name in first) < 1e-5
    assert any((first[name] - BASE[name]).abs().max().item() > 1e-5 for name in first), "the weights have changed"


@pytest.mark.parametrize("reward", ["matcher", "truth_in_answer", "string"])
def test_virft_poses_the_open_question(project, tmp_path, reward):
    output = run(project, tmp_path, method="virft", virft_reward=reward, steps=2)
    assert "virft: 2 steps of 4 prompts × 4 completions" in output
    rows = rollouts(tmp_path)
    assert rows.height == 32 and rows["letter"].null_count() == 32
    assert rows["text"].str.contains("<answer>").mean() > 0.5 and curves(tmp_path)["answer_reward"].null_count() == 0


@pytest.mark.parametrize("source", ["engine", "generate"])
def test_a_thought_that_the_template_opens_is_rewarded_and_stored_whole(project, tmp_path, source):
    model = thinking_model(tmp_path / "thinker")
    run(project, tmp_path, model=str(model), rollouts=source, steps=2, check_images=0, threads=1)
    rows = rollouts(tmp_path)
    assert rows["text"].str.starts_with("<think>").all() and not rows["text"].str.contains("<think>.*<think>").any()
    assert rows["format_reward"].mean() > 0.5 and rows["answer_reward"].sum() > 0


def test_a_style_without_reasoning_has_a_format_of_its_own(project, tmp_path):
    run(project, tmp_path, prompt="brief_answer_only", steps=2, check_images=0)
    rows = rollouts(tmp_path)
    alone = [well_formed(text, thought=False) for text in rows["text"]]
    assert rows["format_reward"].to_list() == [float(one) for one in alone]
    assert rows["text"].str.contains("<think>").any(), "the base model thinks, and is no longer rewarded for it"


@pytest.mark.parametrize("changes", [{"rollouts": "engine"}, {"rollouts": "generate"}, {"method": "sft"}])
def test_the_settings_of_chats_reach_the_prompts_of_training(project, tmp_path, changes, monkeypatch):
    prompts = set()
    render = Qwen2_5_VLProcessor.apply_chat_template

    def record(self, *args, **settings):
        texts = render(self, *args, **settings | {"tokenize": False, "return_dict": False})
        prompts.update([texts] if isinstance(texts, str) else texts)
        return render(self, *args, **settings)

    monkeypatch.setattr(Qwen2_5_VLProcessor, "apply_chat_template", record)
    model = thinking_model(tmp_path / "thinker")
    chat = {"system": "what is this bird ?", "template_kwargs": {"enable_thinking": False, "do_resize": False}}
    run(project, tmp_path, model=str(model), chat=chat, steps=2, check_images=0, threads=1, **changes)
    asked = {prompt for prompt in prompts if "system what is this bird ? " in prompt}
    assert len(asked) > 4 and not any(prompt.endswith("<think>\n") for prompt in asked)
    assert all("assistant <think> </think> " in prompt for prompt in asked if "<answer>" not in prompt)
    rows = rollouts(tmp_path)
    assert (
        rows["text"].str.starts_with("<think> </think>").all()
        and not rows["text"].str.contains("<think>.*<think>").any()
    )
    assert rows.height == 0 or rows["format_reward"].mean() > 0.5, "an answer after the template's empty thought"


def test_a_template_without_a_place_for_the_system_message_is_reported_before_the_first_step(project, tmp_path):
    model = thinking_model(tmp_path / "model", REFUSAL)
    with pytest.raises(UserError, match=r"does not take chat\.system \(System role not supported\)"):
        run(project, tmp_path, model=str(model), chat={"system": "x", "template_kwargs": {}}, method="sft")


def test_two_updates_per_batch_draw_completions_in_every_second_step(project, tmp_path):
    run(project, tmp_path, updates_per_batch=2)
    assert set(rollouts(tmp_path)["step"]) == {1, 3} and rollouts(tmp_path).height == 2 * 4 * 4
    assert curves(tmp_path)["answer_reward"].is_null().to_list() == [False, True, False, True]
    assert curves(tmp_path)["loss"].null_count() == 0


def test_sft_teaches_the_names(project, tmp_path):
    output = run(project, tmp_path, method="sft", steps=6, learning_rate=1e-3)
    assert "sft: 6 steps of 4 prompts;" in output and "step 6/6: loss" in output
    losses = curves(tmp_path)["loss"]
    assert losses[-1] < losses[0] and rollouts(tmp_path).height == 0
    assert any((weights(tmp_path)[name] - BASE[name]).abs().max() > 1e-4 for name in BASE)


def test_none_is_the_model_itself(project, tmp_path):
    assert "no training" in run(project, tmp_path, method="none")
    policy = weights(tmp_path)
    assert all(torch.equal(policy[name], BASE[name]) for name in BASE) and rollouts(tmp_path).height == 0


def test_low_rank_additions_are_merged_into_the_weights(project, tmp_path):
    run(project, tmp_path, tuning="lora", lora_rank=4, freeze=["vision"], learning_rate=1e-3, steps=4)
    policy = weights(tmp_path)
    assert policy.keys() == BASE.keys()
    moved = {name for name in policy if (policy[name] - BASE[name]).abs().max() > 1e-6}
    assert moved and not any(name.startswith("visual.blocks") for name in moved)
    assert all("proj" in name or "mlp" in name for name in moved)


def test_an_adapter_is_a_policy_that_the_next_stage_opens(project, tmp_path):
    predict = {"orders": 1, "val_images": 0, "union": False}
    base = {"tuning": "lora", "lora_rank": 4, "save": "adapter", "steps": 2, "check_images": 0, "learning_rate": 1e-3}
    prepare(project, tmp_path, **base)
    values = YAML(typ="safe").load((tmp_path / "params.yaml").read_text(encoding="utf-8"))
    run(project, tmp_path, predict=values["predict"] | predict, **base)
    policy = {file.name for file in (tmp_path / "models" / "policy").iterdir()}
    assert "adapter_model.safetensors" in policy and not policy & {"model.safetensors", "config.json"}
    run_stage(tmp_path, "predict@trained")
    rows = tables.read(tables.PREDICTIONS, tmp_path / "data" / "predictions" / "trained.parquet")
    assert rows.height == 48 and (rows["two_step"] == rows["class_id"]).mean() > 0.2


def test_rounds_draw_the_options_anew(project, tmp_path):
    output = run(project, tmp_path, rounds=2, steps=4)
    table = pl.read_csv(tmp_path / "data" / "rounds.csv")
    assert table["round"].to_list() == [1, 2] and table["jaccard"].null_count() == 1
    assert 0 <= table["jaccard"][1] <= 1 and table["questions"][0] == 24
    assert curves(tmp_path)["step"].to_list() == [1, 2, 3, 4], output
    rates = curves(tmp_path)["learning_rate"].to_list()
    assert rates == sorted(rates, reverse=True) and rates[0] == 5e-5, "one schedule over all rounds"


def test_a_run_that_diverges_stops_with_one_sentence_and_its_last_good_checkpoint(project, tmp_path):
    with pytest.raises(UserError) as error_info:
        run(project, tmp_path, learning_rate=1e9, steps=8, schedule="constant", check_every=1)
    error = str(error_info.value)
    assert "nats per token from the base model" in error or "the loss of step" in error
    assert "checkpoint" in error and "train.learning_rate" in error and "\n" not in error
    assert not (tmp_path / "models" / "policy").exists()


def test_training_that_only_does_harm_keeps_the_model(project, tmp_path):
    output = run(project, tmp_path, learning_rate=1000.0, schedule="constant", method="sft", steps=2)
    assert "best weights: those before training" in output
    policy = weights(tmp_path)
    assert all(torch.equal(policy[name], BASE[name]) for name in BASE)


def test_a_prompt_that_is_too_long_is_reported_before_the_first_step(project, tmp_path):
    with pytest.raises(UserError, match=r"data/hard.parquet: the prompt of image .*max_completion_length = 10000"):
        run(project, tmp_path, max_completion_length=10_000)
    assert not list(tmp_path.glob(".work/train/*/round-1/checkpoint-*"))
