"""Every preset from photos to the report, on a small random model of its own class, with its own settings.

Only counts and lengths are scaled down.
"""

import os
import sys
from pathlib import Path

import polars as pl
import pytest
from support.families import tiny_family
from support.photographs import photograph
from support.preset_models import PUBLISHED
from support.workspace import call, copy_project, run_all, run_stage, set_params

from pipeline.core import tables
from pipeline.datasets.species import SPECIES

pytestmark = pytest.mark.slow

NAMES = sorted(PUBLISHED)
FEW = ("gemma-4-e4b", "qwen3-vl-4b", "qwen3.5-4b")
SMALL = {
    "dataset": "folder",
    "noun": "bird",
    "data.val_share": 0.3,
    "engine.threads": 1,
    "num_samples": 3,
    "topk": 2,
    "sample.max_new_tokens": 6,
    "filter.drop": "nothing",  # a model of random weights names no class, and options.filler gives it questions
    "train.steps": 2,
    "train.prompts_per_step": 2,
    "train.generations": 4,
    "train.max_completion_length": 6,
    "train.check_every": 2,
    "train.check_images": 2,
    "train.check_samples": 2,
    "predict.choice_max_new_tokens": 6,
    "predict.val_images": 2,
}
BIRDS = [species.name for species in SPECIES[:6]]  # the small models' tokenizer is the field guide's
PHOTOS = 6  # of a class


@pytest.fixture
def project(tmp_path) -> Path:
    """The project with a folder of photos."""
    copy_project(tmp_path)
    for number in range(PHOTOS * len(BIRDS)):
        folder = tmp_path / "photos" / BIRDS[number // PHOTOS]
        folder.mkdir(exist_ok=True)
        photograph(number, 120, 90).save(folder / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("name", NAMES if os.environ.get("DIVEK_PRESETS") else FEW)
def test_a_preset_leads_from_photos_to_the_report(project, name):
    """DIVEK_PRESETS=1 runs all of them."""
    call(project, sys.executable, "-m", "pipeline", "preset", name)
    tiny_family(project / "models" / "tiny", PUBLISHED[name].family)
    set_params(project, **SMALL | {"model": "models/tiny"})
    run_all(project, "download", "sample", "options", "filter", "train")
    run_stage(project, "predict@base", model="models/tiny")
    run_all(project, "predict@trained", "baselines", "evaluate", "report")
    for label in ("base", "trained"):
        rows = tables.read(tables.PREDICTIONS, project / "data" / "predictions" / f"{label}.parquet")
        assert rows.height and not rows.filter(pl.col("greedy_status") == "error").height
    assert (project / "models" / "policy" / "model.safetensors").is_file()
    assert (project / "reports" / "index.html").is_file()
