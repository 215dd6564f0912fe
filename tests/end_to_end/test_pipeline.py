"""One real run of everything in a clone: what its tables, reports and lines of counts hold."""

import json
import re
import sys
from pathlib import Path

import polars as pl
from support.workspace import TINY, call

from pipeline.core import tables


def predictions(folder: Path) -> pl.DataFrame:
    return pl.concat(
        tables.read(tables.PREDICTIONS, folder / "data" / "predictions" / f"{model}.parquet")
        for model in ("base", "trained")
    )


def test_every_stage_ends_with_a_line_of_counts(clone):
    printed = (clone / ".git" / "printed").read_text(encoding="utf-8")
    stages = re.findall(r"^> python -m pipeline\.stages\.(\w+).*?\n(.*?)(?=^Running stage|\Z)", printed, re.M | re.S)
    assert len(stages) == 10
    for stage, lines in stages:
        others = ("Updating", "To ", "\t", "Use ", "WARNING: stage")  # DVC's own lines
        last = [line for line in lines.splitlines() if line and not line.startswith(others)][-1]
        assert re.search(r"\d", last) or stage == "baselines", f"{stage}: {last}"
        assert "\x1b" not in lines and "━" not in lines, "no bar and no colour where nobody watches"


def test_every_test_image_keeps_its_row(clone):
    images = tables.read(tables.IMAGES, clone / "data" / "images.parquet")
    assert sorted(images["split"].value_counts().rows()) == [("test", 48), ("train", 144), ("val", 48)]
    test = set(images.filter(split="test")["image_id"])
    for _, rows in predictions(clone).group_by("model"):
        assert set(rows.filter(split="test")["image_id"]) == test
        validation = images.join(rows.filter(split="val").select("image_id", "subset"), on="image_id")
        assert validation.height == 24 and set(validation["split"]) == {"val"} and set(validation["subset"]) == {"base"}
    details = json.loads((clone / "reports" / "details.json").read_text(encoding="utf-8"))
    assert details["trained"]["two_step"]["n_base"] + details["trained"]["two_step"]["n_novel"] == 48


def test_only_training_images_of_base_classes_are_sampled_and_trained_on(clone):
    images = tables.read(tables.IMAGES, clone / "data" / "images.parquet")
    classes = tables.read(tables.CLASSES, clone / "data" / "classes.parquet")
    base = set(classes.filter(subset="base")["class_id"])
    allowed = set(images.filter((pl.col("split") == "train") & pl.col("class_id").is_in(base))["image_id"])
    samples = tables.read(tables.SAMPLES, clone / "data" / "samples.parquet")
    assert set(samples["image_id"]) == allowed
    assert samples.height == len(allowed) * TINY["num_samples"]
    hard = tables.read(tables.HARD, clone / "data" / "hard.parquet")
    assert set(hard["image_id"]) <= allowed
    assert {option["class_id"] for options in hard["options"] for option in options} <= base


def test_every_dropped_question_has_its_reason(clone):
    counts = json.loads((clone / "reports" / "filter.json").read_text(encoding="utf-8"))
    questions = tables.read(tables.QUESTIONS, clone / "data" / "questions.parquet")
    hard = tables.read(tables.HARD, clone / "data" / "hard.parquet")
    assert counts["kept"] == hard.height
    assert counts["questions"] == questions.height == sum(n for reason, n in counts.items() if reason != "questions")


def test_training_moved_the_weights_and_logged_every_step(clone):
    import torch
    from safetensors.torch import load_file

    before = load_file(clone / "models" / "fieldguide" / "model.safetensors")
    after = load_file(clone / "models" / "policy" / "model.safetensors")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name].float(), after[name].float()) for name in before)
    curves = pl.read_csv(clone / "reports" / "training.csv")
    assert curves["step"].to_list() == [1, 2]
    logged = curves.select("answer_reward", "entropy", "share_of_groups_without_variance")
    assert logged.null_count().sum_horizontal().item() == 0


def test_nothing_to_do_the_second_time(clone):
    assert "up to date" in call(clone, "dvc", "repro")
    assert call(clone, "git", "status", "--porcelain") == ""


def numbers(tree) -> int:
    return sum(map(numbers, tree.values())) if isinstance(tree, dict) else 1


def test_the_metrics_are_the_headline_alone(clone):
    assert numbers(json.loads((clone / "reports" / "metrics.json").read_text(encoding="utf-8"))) <= 40
    listed = json.loads(call(clone, "dvc", "metrics", "show", "--json"))
    assert list(listed[""]["data"]) == ["reports/metrics.json"], "details and counts are no DVC metrics"


def test_summary_prints_every_way_to_answer(clone):
    printed = call(clone, sys.executable, "-m", "pipeline", "summary")
    for words in ("base model", "trained model", "one-step", "vote", "two-step", "pass@1", "pass@6", "index.html"):
        assert words in printed
