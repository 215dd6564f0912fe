"""CLIP as a zero-shot classifier."""

import polars as pl
import pytest

from pipeline.baselines.clip import Clip
from pipeline.core.params import UserError
from pipeline.evaluation.ways import TRUTH_OFFERED

pytestmark = pytest.mark.slow


def test_zero_shot_answers_every_image_with_a_class_of_its_own_subset(clip_predictions, world, share):
    classes, images = world
    assert set(clip_predictions["image_id"]) == set(images.filter(split="test")["image_id"])
    subset_of = dict(classes.select("class_id", "subset").rows())
    assert all(subset_of[c] == subset for c, subset in clip_predictions.select("one_step", "subset").rows())
    # By chance one of 24, ± 0.017 over 144 images.
    assert share(clip_predictions) > 0.1
    offered = clip_predictions.select(TRUTH_OFFERED.alias("offered"))["offered"].mean()
    assert offered > 0.7
    assert clip_predictions["draws"].list.len().sum() == 0
    assert clip_predictions["choice_text"].null_count() == clip_predictions.height
    assert clip_predictions["greedy_probability"].is_between(1 / 24, 1).all()


def test_an_image_that_cannot_be_read_is_a_wrong_answer(answer, params, world):
    broken = world[1].filter(split="test").head(20).with_row_index("row")
    first = pl.col("row") == 0
    broken = broken.with_columns(
        status=pl.when(first).then(pl.lit("error")).otherwise("status"),
        image=pl.when(first).then(pl.lit(b"")).otherwise("image"),
        reason=pl.when(first).then(pl.lit("cut off")).otherwise("reason"),
    ).drop("row")
    table = answer("clip", params, images=broken)
    row = table.filter(image_id=broken["image_id"][0]).row(0, named=True)
    columns = ("greedy_status", "status", "one_step", "greedy_text")
    assert tuple(row[name] for name in columns) == ("error", "error", None, "cut off")
    assert table.height == 20 and table.filter(greedy_status="ok").height == 19


def test_a_model_that_is_no_clip_is_refused(base_model):
    with pytest.raises(UserError, match="the model is of type qwen2_5_vl, not clip"):
        Clip(base_model)
