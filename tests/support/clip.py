"""A small CLIP trained on drawn birds, for the tests of the baselines."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    """A CLIP after 80 steps, with its descriptions, as `python -m pipeline.fieldguide.clip_model` writes it."""
    from pipeline.fieldguide.clip_model import DESCRIPTIONS, descriptions, train_clip

    folder = tmp_path_factory.mktemp("models") / "small.clip"
    # A higher rate than that of 600 steps: few steps have to be large.
    for part in train_clip(80, seed=0, threads=2, birds=480, rate=1.5e-3, report=lambda _: None):
        part.save_pretrained(folder)
    (folder / DESCRIPTIONS).write_text(descriptions(), encoding="utf-8")
    return folder
