"""Every preset from photos to the report, on a small random model of its own class, with its own settings.

Only counts and lengths are scaled down.
"""

import os
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from support.families import tiny_family
from support.preset_models import PUBLISHED
from support.workspace import call, copy_project, inside, run_all, run_stage, set_params

from pipeline.core import tables

pytestmark = pytest.mark.slow

NAMES = sorted(PUBLISHED)
FEW = ("gemma-4-e4b", "qwen3-vl-4b", "qwen3.5-4b")  # a way of drawing each, and a thinking template
SMALL = {
    "num_samples": 3,
    "topk": 2,
    "data.train_per_class": 1,
    "data.val_per_class": 1,
    "data.test_per_class": 1,
    "data.limit_per_class": 1,
    "sample.max_new_tokens": 6,
    "filter.drop": "nothing",  # a model of random weights names no class; options.filler of the presets gives questions
    "train.steps": 2,
    "train.max_completion_length": 6,
    "train.check_every": 2,
    "train.check_images": 2,
    "train.check_samples": 2,
    "predict.choice_max_new_tokens": 6,
    "predict.val_images": 2,
}


@pytest.mark.parametrize("name", NAMES if os.environ.get("DIVEK_PRESETS") else FEW)
def test_a_preset_runs_from_photos_to_the_report(name, tmp_path, monkeypatch):
    """DIVEK_PRESETS=1 runs all of them."""
    family = PUBLISHED[name].family
    if family == "smolvlm":  # its processor wants num2words, for the texts of videos
        monkeypatch.setattr("transformers.models.smolvlm.processing_smolvlm.num2words", str)
    copy_project(tmp_path)
    call(tmp_path, sys.executable, "-m", "pipeline", "preset", name)
    set_params(tmp_path, **SMALL | {"model": str(tiny_family(tmp_path / "models" / "tiny", family))})
    run_all(tmp_path, "download", "sample", "options", "filter", "train")
    run_stage(tmp_path, "predict@base", model="models/tiny")
    run_all(tmp_path, "predict@trained", "baselines", "evaluate", "report")
    trained = tables.read(tables.PREDICTIONS, tmp_path / "data" / "predictions" / "trained.parquet")
    assert trained.height and not trained.filter(pl.col("greedy_status") == "error").height
    assert (tmp_path / "reports" / "index.html").is_file()
