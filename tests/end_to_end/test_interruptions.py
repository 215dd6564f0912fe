"""Runs that are killed, repeated or made side by side end with the same bytes, and nothing is drawn twice."""

import hashlib
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from ruamel.yaml import YAML
from support.workspace import run_all, set_params
from typer.testing import CliRunner

from pipeline.__main__ import app

DRAWS = 72 * 6


def sampling(workspace: Path, root: Path) -> subprocess.Popen:
    """The sample stage, with a draw cache and an output of its own."""
    command = (sys.executable, "-m", "pipeline.stages.sample", "--samples", str(root / "samples.parquet"))
    environment = os.environ | {"DVC_ROOT": str(root)}
    return subprocess.Popen(command, cwd=workspace, env=environment, stdout=subprocess.PIPE, text=True)


def counts(printed: str) -> list[int]:
    """The numbers in brackets: new draws, and draws from the cache."""
    return [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", re.search(r"\((.*)\)", printed)[1])]


def test_killed_and_run_again_it_writes_the_same_bytes(workspace, tmp_path):
    set_params(workspace, engine__max_rows=30)  # five images at a time
    root = tmp_path / "killed"
    run = sampling(workspace, root)
    while run.poll() is None and len(list(root.glob(".work/draws/*/*.parquet"))) < 3:
        time.sleep(0.01)
    run.kill()
    run.communicate()
    assert not (root / "samples.parquet").exists(), "nothing half-written"
    runs = [sampling(workspace, root) for _ in range(2)]
    printed = [run.communicate()[0] for run in runs]
    assert all("72 images" in text and counts(text)[1] > 0 for text in printed), "two runs at once share what is there"
    # Batches of another size: the same draws up to rounding, and so the same texts.
    assert (root / "samples.parquet").read_bytes() == (workspace / "data" / "samples.parquet").read_bytes()


def test_a_second_run_gives_the_same_bytes(workspace):
    lock = YAML(typ="safe").load((workspace / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    hashes = {out["path"]: out["md5"] for stage in lock.values() for out in stage.get("outs", [])}
    for path in (workspace / ".work").rglob("*.parquet"):
        path.unlink()
    run_all(workspace)
    files = [path for path in hashes if path.endswith((".parquet", ".csv", ".json", ".html"))]
    assert len(files) > 12
    for path in files:
        assert hashlib.md5((workspace / path).read_bytes()).hexdigest() == hashes[path], path


def test_draws_are_counted_and_deleted(workspace, monkeypatch):
    from pipeline.stages.sample import main

    monkeypatch.chdir(workspace)
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def listing() -> str:
        return CliRunner().invoke(app, ["draws"]).stdout

    # 72 training images with 6 draws; 48 test and 24 validation images with 6 and the greedy answer.
    assert re.search(r"936 draws +144 images", listing())
    main(forget=True)
    assert "144 images" not in listing()


@pytest.fixture(autouse=True)
def nothing_printed(capsys):
    yield
    capsys.readouterr()


POLL = 0.02  # seconds between two looks at a process
KILLS = int(os.environ.get("DIVEK_KILLS", "1"))
COMMANDS = {
    "predict": ("--model", "models/fieldguide", "--label", "base", "--out", "data/predictions/base.parquet"),
    "evaluate": (),
    "report": (),
}


def require_same(before: dict[Path, bytes]) -> None:
    """Every file as it was. A probability may differ by rounding: the draws left after a kill form other batches."""
    for path, content in before.items():
        if path.read_bytes() != content:
            assert path.parent.name == "predictions", path
            now, then = pl.read_parquet(path), pl.read_parquet(content)
            assert_frame_equal(now, then, check_exact=False, rel_tol=1e-5, abs_tol=1e-6)


@pytest.mark.parametrize("stage", COMMANDS)
def test_killed_at_any_moment_it_leaves_the_old_outputs_or_the_new(workspace, stage):
    """DIVEK_KILLS sets how often."""
    for path in (workspace / ".work").rglob("*.parquet"):
        path.unlink()
    outputs = [*(workspace / "data").rglob("*.*"), *(workspace / "reports").rglob("*.*")]
    before = {path: path.read_bytes() for path in outputs if path.is_file()}
    command = (sys.executable, "-m", f"pipeline.stages.{stage}", *COMMANDS[stage])
    environment = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}

    def start() -> subprocess.Popen:
        return subprocess.Popen(command, cwd=workspace, env=environment, stdout=subprocess.DEVNULL)

    run, polls = start(), 0
    while run.poll() is None:
        time.sleep(POLL)
        polls += 1
    assert run.returncode == 0
    rng, met = random.Random(stage), 0
    for path in (workspace / ".work").rglob("*.parquet"):
        path.unlink()
    for _ in range(KILLS):
        run = start()
        time.sleep(POLL * rng.randrange(polls // 3, polls))
        met += run.poll() is None
        run.kill()
        run.wait()
        require_same(before)
    assert start().wait() == 0 and (met or KILLS == 1)
    require_same(before)
    assert not [path for path in workspace.rglob(".*.partial") if path.is_file() and ".work" not in path.parts]
