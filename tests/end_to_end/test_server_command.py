"""One `dvc repro` from photos to report on servers that the stages start: the real `transformers serve`, unattended."""

import sys
from pathlib import Path

import polars as pl
import pytest
from support.engines import engine_of
from support.tiny_models import tiny_model
from support.workspace import call, copy_workspace, set_params

from pipeline.core import tables

SETTINGS = {
    "model": "models/tiny",
    "engine.name": "openai",
    "server.dialect": "openai",
    "server.concurrency": 1,
    "server.timeout": 60.0,
    "num_samples": 2,
    "sample.top_k": 0,
    "data.train_per_class": 1,
    "predict.orders": 1,
    "predict.val_images": 0,
    "train.check_images": 0,
    "options.filler": 2,  # a model of random weights names no class
    "train.freeze": ["vision"],
}


@pytest.fixture
def workspace(clone, tmp_path, monkeypatch) -> Path:
    """A copy of the clone with a model of random weights that `transformers serve` opens on this machine."""
    from transformers import GenerationConfig

    folder = copy_workspace(clone, tmp_path / "workspace")
    model = tiny_model(folder / "models" / "tiny", "llava")
    settings = GenerationConfig.from_pretrained(model)
    settings.suppress_tokens = engine_of(model)._placeholders  # as the engine in process does by itself
    settings.save_pretrained(model)
    program = Path(sys.executable).parent / "transformers"
    command = f"{program} serve {{model}} --host 127.0.0.1 --port {{port}} --device cpu"
    set_params(folder, **SETTINGS | {"server.command": command})
    (tmp_path / "hub").mkdir()  # without it `transformers serve` has no list of models
    for name, value in {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    return folder


def test_one_command_leads_from_photos_to_the_report(workspace):
    printed = call(workspace, "dvc", "repro")
    for model in ("models/tiny", "models/policy"):
        assert f"starting the server of {model}" in printed
    assert "nothing to do" not in printed
    base, trained = (
        tables.read(tables.PREDICTIONS, workspace / "data" / "predictions" / f"{label}.parquet")
        for label in ("base", "trained")
    )
    assert base.height == trained.height == 48
    assert not base.filter(pl.col("greedy_status") == "error").height
    assert (workspace / "reports" / "report.html").is_file()
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.is_file()]
    assert not [line for line in running if str(workspace).encode() in line]
    assert "didn't change" in call(workspace, "dvc", "repro")
