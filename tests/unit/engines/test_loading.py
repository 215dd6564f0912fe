"""Sources of models, folders and hub ids, and the device of each process."""

import io
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.project import ROOT

from pipeline.core.params import UserError
from pipeline.engines.common import loading
from pipeline.engines.common.loading import device, load_clip, load_model, load_processor
from pipeline.engines.common.model_folder import local_folder

pytestmark = pytest.mark.slow


def test_a_folder_is_itself_and_a_missing_one_is_an_error(base_model, tmp_path):
    assert str(local_folder(base_model)) == base_model
    with pytest.raises(UserError, match="no such folder"):
        local_folder(str(tmp_path / "nowhere"))


HOSTILE = """
from pathlib import Path
Path({marker!r}).touch()
from transformers import PretrainedConfig
class Config(PretrainedConfig):
    model_type = "hostile"
"""


@pytest.mark.parametrize("load", [load_processor, lambda source: load_model(source, "float32", "eager"), load_clip])
def test_code_of_a_model_is_never_run(tmp_path, monkeypatch, load):
    """Neither unasked nor after a "y" that is piped in."""
    folder, marker = tmp_path / "model", tmp_path / "ran"
    folder.mkdir()
    (folder / "code.py").write_text(HOSTILE.format(marker=str(marker)), encoding="utf-8")
    names = ("AutoConfig", "AutoModelForImageTextToText", "AutoProcessor", "AutoTokenizer", "AutoImageProcessor")
    config = {"model_type": "hostile", "auto_map": {name: "code.Config" for name in names}}
    for file in ("config.json", "processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        (folder / file).write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 20))
    with pytest.raises(UserError, match=r"brings code of its own, which is never run here|is of type hostile"):
        load(str(folder))
    assert not marker.exists()


def test_a_model_without_some_of_its_weights_is_refused(base_model, tmp_path):
    """transformers would make them up at random, with a warning only."""
    folder = shutil.copytree(base_model, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    kept = dict(list(weights.items())[:5])
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"its files lack \d+ of the model's weights \(.* …\); copy or download"):
        load_model(str(folder), "float32", "eager")


def test_pickled_weights_are_refused(base_model, tmp_path):
    folder = shutil.copytree(base_model, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(str(folder), "float32", "eager")


def test_a_hub_id_is_the_copy_on_this_machine(tmp_path):
    repository, revision = tmp_path / "models--someone--birds", "5" * 40
    (repository / "snapshots" / revision).mkdir(parents=True)
    (repository / "snapshots" / revision / "config.json").write_text("{}", encoding="utf-8")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision, encoding="utf-8")
    command = [
        sys.executable,
        "-c",
        "from pipeline.engines.common.model_folder import local_folder; print(local_folder('someone/birds'))",
    ]
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    printed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(repository / "snapshots" / revision)


@pytest.mark.parametrize(("rank", "expected"), [(None, "cuda"), ("0", "cuda:0"), ("3", "cuda:3")])
def test_every_process_has_a_gpu_of_its_own(monkeypatch, rank, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert device() == expected


@pytest.mark.parametrize(
    ("place", "machine", "instructions", "precision"),
    [
        ("cuda", "x86_64", True, "bfloat16"),
        ("cuda:1", "x86_64", False, "float32"),  # before Ampere
        ("cpu", "x86_64", True, "bfloat16"),
        ("cpu", "AMD64", False, "float32"),
        ("cpu", "aarch64", False, "float32"),
        ("mps", "arm64", True, "float32"),
    ],
)
def test_auto_takes_bfloat16_where_the_device_computes_in_it(monkeypatch, place, machine, instructions, precision):
    monkeypatch.setattr(loading, "device", lambda: place)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: instructions)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: instructions)
    assert loading.training_precision("auto") == precision
    assert [loading.training_precision(one) for one in ("float32", "bfloat16")] == ["float32", "bfloat16"]
