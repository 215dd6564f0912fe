"""Sources of models, folders and hub ids, and the device of each process."""

import os
import subprocess
import sys

import pytest
import torch
from support.project import ROOT

from pipeline.core.params import UserError
from pipeline.engines.common.loading import device, local_folder


def test_a_folder_is_itself_and_a_missing_one_is_an_error(base_model, tmp_path):
    assert str(local_folder(base_model)) == base_model
    with pytest.raises(UserError, match="no such folder"):
        local_folder(str(tmp_path / "nowhere"))


@pytest.mark.slow
def test_a_hub_id_is_the_copy_on_this_machine(tmp_path):
    repository, revision = tmp_path / "models--someone--birds", "5" * 40
    (repository / "snapshots" / revision).mkdir(parents=True)
    (repository / "snapshots" / revision / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    command = [
        sys.executable,
        "-c",
        "from pipeline.engines.common.loading import local_folder; print(local_folder('someone/birds'))",
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
