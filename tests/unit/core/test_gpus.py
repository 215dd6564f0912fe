"""GPUs of runs side by side: each has its own, and gets them when another ends."""

import os
import subprocess
import sys

import pytest
from support.project import ROOT

from pipeline.core import gpus
from pipeline.core.params import UserError

DRIVER = "#!/bin/sh\nprintf '0, GPU-a\\n1, GPU-b\\n2, GPU-c\\n3, GPU-d\\n'\n"
CLAIM = """
import sys
from pipeline.core import gpus
gpus.POLL = 0.05
print(",".join(gpus.claim(int(sys.argv[1]))), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine whose driver lists four GPUs."""
    driver = tmp_path / "nvidia-smi"
    driver.write_text(DRIVER, encoding="utf-8")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for name in (gpus.VISIBLE, gpus.CLAIMED):
        monkeypatch.delenv(name, raising=False)


def run(count, **environment):
    return subprocess.Popen(
        (sys.executable, "-c", CLAIM, str(count)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
    )


def claimed(process):
    return process.stdout.readline().strip()


def test_runs_side_by_side_have_their_own():
    first, second = run(2), run(1)
    assert len(names := {*claimed(first).split(","), *claimed(second).split(",")}) == 3
    third = run(0)
    assert set(claimed(third).split(",")) == {"GPU-a", "GPU-b", "GPU-c", "GPU-d"} - names
    waits = run(2)
    assert "other runs have the GPUs" in waits.stderr.readline()
    first.kill()  # a killed run holds nothing
    assert len(claimed(waits).split(",")) == 2
    for process in (first, second, third, waits):
        process.kill()
        process.wait()


def test_what_a_run_starts_shares_its_gpus():
    inner = run(1, **{gpus.CLAIMED: "2,3", gpus.VISIBLE: "2,3"})
    assert claimed(inner) == "2,3"
    inner.kill()


@pytest.mark.parametrize(
    ("variable", "names"),
    [("1,3", ["GPU-b", "GPU-d"]), ("GPU-c,2", ["GPU-c"]), ("MIG-1/2", ["MIG-1/2"]), ("", []), ("-1", [])],
)
def test_only_visible_ones_are_claimed(variable, names, monkeypatch):
    monkeypatch.setenv(gpus.VISIBLE, variable)
    assert gpus.visible() == names


def test_more_than_there_are_is_a_sentence():
    with pytest.raises(UserError, match="5 GPUs needed, and 4 GPUs visible"):
        gpus.claim(5)


def test_what_was_claimed_for_one_model_must_do_for_the_next(monkeypatch):
    monkeypatch.setenv(gpus.CLAIMED, "GPU-a")
    assert gpus.claim(0) == gpus.claim(1) == ["GPU-a"]
    with pytest.raises(UserError, match="2 GPUs needed, and 1 GPU claimed by this stage"):
        gpus.claim(2)


def test_without_a_driver_nothing_is_claimed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert gpus.claim(2) == []
