"""Two processes draw what one draws, to the last digit; one that is killed ends the run with a sentence."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from support.engines import SAMPLER, engine_of
from support.project import ROOT
from support.workspace import run_stage, set_params

from pipeline.core import gpus, tables
from pipeline.core.engine import GREEDY, Request
from pipeline.core.params import UserError
from pipeline.engines.processes import ProcessesEngine
from pipeline.method.chat import Chat

pytestmark = pytest.mark.slow

QUESTION = "Which bird is this ?"


@pytest.fixture(scope="module")
def requests(birds):
    _, images = birds
    rows = images.filter(pl.col("split") == "test")["image_id", "image"].rows()
    draws = [GREEDY, *range(6)]
    good = [Request(name, image, QUESTION, draws, keep_prefill=True) for name, image in rows]
    return [*good, Request("broken", b"no picture", QUESTION, [0])]


def single(base_model):
    engine = engine_of(base_model, max_rows=20)
    engine.threads, engine.chat = 1, Chat("what is this bird ?", {})  # which every process must put in front
    return engine


def draw(engine, requests):
    drawn = [one for batch in engine.draw(requests, SAMPLER) for one in batch]
    return sorted(drawn, key=lambda one: (one.image_id, one.draw))


def test_two_processes_draw_what_one_draws(base_model, requests, capfd):
    one, two = single(base_model), ProcessesEngine(single(base_model), 2, [])
    assert two.fingerprint() == one.fingerprint()
    assert draw(two, requests) == draw(one, requests)
    assert len(two.workers) == 2 and len({place % 2 for place in two.places.values()}) == 2, "both have worked"
    again = [replace(one, question="a finch ? " + QUESTION, draws=[GREEDY, 0]) for one in requests[::-1]]
    assert draw(two, again) == draw(one, again), "a second question goes where the picture was read"
    # By the first process of the two, and by this one unless a test before has seen it.
    assert capfd.readouterr().err.count("draws with `shared`") in (1, 2)
    pids = [worker.process.pid for worker in two.workers]
    two.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_the_tables_of_stages_are_those_of_one_process_to_the_byte(birds, tmp_path, capsys):
    written = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        (folder / "data" / "predictions").mkdir(parents=True)
        for table, rows in zip((tables.CLASSES, tables.IMAGES), birds, strict=True):
            tables.write(table, rows, folder / "data" / f"{table.name}.parquet")
        (folder / "models").symlink_to(ROOT / "models")
        shutil.copy(ROOT / "params.yaml", folder)
        set_params(folder, num_samples=6, engine__processes=count, engine__threads=1, engine__max_rows=20)
        set_params(folder, predict__orders=1, predict__val_images=0)
        run_stage(folder, "sample")
        run_stage(folder, "predict@base")
        assert "0 from the draw cache" in capsys.readouterr().out
        files = sorted((folder / "data").rglob("*.parquet"))
        written.append({file.relative_to(folder).as_posix(): file.read_bytes() for file in files})
    assert len(written[0]) == 5 and written[0] == written[1]


def test_a_process_that_is_killed_ends_the_run_with_a_sentence(base_model, requests):
    engine = ProcessesEngine(single(base_model), 2, [])
    batches = engine.draw(requests, SAMPLER)
    kept = [next(batches) for _ in range(2)]
    os.kill(engine.workers[1].process.pid, signal.SIGKILL)
    with pytest.raises(UserError, match=r"process 2 of 2 .* exit code -9; the finished draws are kept"):
        kept += list(batches)
    assert kept and draw(engine, requests[:3]), "the same engine starts again"
    engine.close()


def test_a_model_that_cannot_be_loaded_is_a_sentence(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    engine = ProcessesEngine(engine_of(tmp_path), 2, [])
    with pytest.raises(UserError, match="cannot be loaded"):
        draw(engine, [Request("one", b"", QUESTION, [0])])
    engine.close()


def test_each_process_sees_its_own_gpu(base_model, monkeypatch):
    monkeypatch.setenv(gpus.VISIBLE, "3,5")
    engine = ProcessesEngine(single(base_model), 2, ["3", "5"])
    seen = []
    for worker in engine.workers:
        with Path(f"/proc/{worker.process.pid}/environ").open("rb") as file:
            seen.append([line for line in file.read().split(b"\0") if line.startswith(b"CUDA_VISIBLE_DEVICES")])
    assert seen == [[b"CUDA_VISIBLE_DEVICES=3"], [b"CUDA_VISIBLE_DEVICES=5"]]
    assert os.environ[gpus.VISIBLE] == "3,5"
    engine.close()
