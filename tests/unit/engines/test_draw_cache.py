"""The draw cache: no draw is made twice, none is lost, and none is read from a damaged shard."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from support.counting import SAMPLER, Counting, requests
from support.project import ROOT
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.core.engine import GREEDY
from pipeline.engines.common.draw_cache import CachingEngine, draw_cache_folder


def draw(folder, image_requests, engine=None, sampler=SAMPLER):
    """The completions, sorted, and the (image, number) of those that the engine had to draw."""
    engine = engine or Counting()
    completions = [one for batch in CachingEngine(engine, folder).draw(image_requests, sampler) for one in batch]
    return sorted(completions, key=lambda one: (one.image_id, one.draw)), engine.draws


def test_a_second_run_draws_nothing(tmp_path):
    first, new = draw(tmp_path, requests())
    assert len(new) == 32
    second, new = draw(tmp_path, requests())
    assert new == []
    assert second == first, "texts, lengths and ends come back as they were"


def test_the_same_engine_asked_twice_draws_once(tmp_path):
    """As `predict` does, which answers with the labels of the subset and with all of them."""
    inner = Counting()
    engine = CachingEngine(inner, tmp_path)

    def texts():
        batches = engine.draw(requests(), SAMPLER)
        return sorted((one.image_id, one.draw, one.text) for batch in batches for one in batch)

    first = texts()
    engine.read_again()
    second = texts()
    assert first == second and len(inner.draws) == 32 and engine.counts() == "32 new draws, 32 from the draw cache"


@pytest.mark.parametrize("then", [range(6), range(2), [GREEDY, *range(4)], [9]])
def test_only_the_missing_draws_are_drawn(tmp_path, then):
    draw(tmp_path, requests())
    completions, new = draw(tmp_path, requests(draws=then))
    assert [d.draw for d in completions if d.image_id == "i0"] == sorted(then)
    assert {draw for _, draw in new} == set(then) - set(range(4))


def test_more_images_draw_only_what_is_new(tmp_path):
    draw(tmp_path, requests(images=5))
    _, new = draw(tmp_path, requests(images=8))
    assert {image for image, _ in new} == {"i5", "i6", "i7"}


@pytest.mark.parametrize(
    "change",
    [
        {"image_requests": requests(question="what ?")},
        {"image_requests": [replace(one, prefix="<think> A") for one in requests()]},
        {"engine": Counting(model="another")},
        {"sampler": replace(SAMPLER, seed=1)},
        {"sampler": replace(SAMPLER, stop=("x",))},
        {"sampler": replace(SAMPLER, temperature=0.9)},
    ],
)
def test_what_the_draws_depend_on_keeps_them_apart(tmp_path, change):
    draw(tmp_path, requests())
    _, new = draw(tmp_path, **{"image_requests": requests(), **change})
    assert len(new) == 32
    _, new = draw(tmp_path, requests())
    assert new == []


def test_the_fingerprint_is_computed_once(tmp_path):
    """It reads all weights of a real model."""
    calls = []

    class Fingerprints(Counting):
        def fingerprint(self):
            calls.append(self.model)
            return super().fingerprint()

    engine = CachingEngine(Fingerprints(), tmp_path)
    for images in (2, 4, 8):
        list(engine.draw(requests(images=images), SAMPLER))
    assert calls == ["m"]


def test_failures_are_drawn_again(tmp_path):
    completions, _ = draw(tmp_path, requests(), Counting(failing=("i3",)))
    assert sum(d.error is not None for d in completions) == 4
    _, new = draw(tmp_path, requests())
    assert {image for image, _ in new} == {"i3"}


def test_a_run_that_stops_keeps_its_batches(tmp_path):
    batches = CachingEngine(Counting(), tmp_path).draw(requests(), SAMPLER)
    next(batches), next(batches)
    del batches
    _, new = draw(tmp_path, requests())
    assert {image for image, _ in new} == {"i6", "i7"}


def test_two_runs_at_once(tmp_path):
    image_requests = requests()
    one = CachingEngine(Counting(), tmp_path).draw(image_requests, SAMPLER)
    other = CachingEngine(Counting(), tmp_path).draw(image_requests[::-1], SAMPLER)
    both = list(zip(one, other, strict=True))
    assert sum(len(batch) for batch, _ in both) == sum(len(batch) for _, batch in both) == 32
    again, new = draw(tmp_path, image_requests)
    assert new == []
    assert len(again) == 32, "each draw once, though two shards hold it"


@pytest.mark.parametrize("damage", [lambda b: b[:-40], lambda b: b[:90] + bytes([b[90] ^ 1]) + b[91:], lambda b: b""])
def test_a_damaged_shard_is_reported_renamed_and_drawn_again(tmp_path, capsys, damage):
    first, _ = draw(tmp_path, requests())
    shard = sorted(tmp_path.glob("*/*.parquet"))[0]
    shard.write_bytes(damage(shard.read_bytes()))
    second, new = draw(tmp_path, requests())
    assert second == first
    assert 0 < len(new) < 32
    assert f"{shard}: damaged, renamed to {shard.stem}.damaged" in capsys.readouterr().err
    assert shard.with_suffix(".damaged").is_file()
    assert draw(tmp_path, requests())[1] == []


def test_a_partial_shard_of_a_killed_run_is_not_read_and_is_deleted(tmp_path):
    draw(tmp_path, requests())
    cache = next(tmp_path.iterdir())
    young, old = cache / ".a.parquet.1.partial", cache / ".b.parquet.2.partial"
    for partial in (young, old):
        partial.write_bytes(b"PAR1")
    os.utime(old, (young.stat().st_mtime - 7200,) * 2)
    assert draw(tmp_path, requests())[1] == []
    assert young.exists(), "it may belong to a run that is still writing"
    assert not old.exists()


def test_clear_deletes_one_cache(tmp_path):
    draw(tmp_path, requests())
    draw(tmp_path, requests(), sampler=replace(SAMPLER, seed=1))
    assert CachingEngine(Counting(), tmp_path).cache(SAMPLER).clear() == 32
    assert len(draw(tmp_path, requests())[1]) == 32
    assert draw(tmp_path, requests(), sampler=replace(SAMPLER, seed=1))[1] == []


def test_the_cache_is_in_the_project_itself_wherever_dvc_runs_the_stage(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert draw_cache_folder() == tmp_path / ".work" / "draws"


def test_the_report_of_sizes(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    empty = CliRunner().invoke(app, ["draws"])
    assert (empty.exit_code, empty.output.split()[:2]) == (0, ["0", "draws,"])
    draw(draw_cache_folder(), requests())
    out = CliRunner().invoke(app, ["draws"]).output
    assert "32 draws" in out
    assert "8 images" in out
    assert "counting/1 m max_new_tokens=16 penalize_prompt=True" in out


KILLED = """
import sys, time
sys.path.insert(0, {root!r}); sys.path.insert(0, {tests!r})
from pathlib import Path
from support.counting import Counting, SAMPLER, requests
from pipeline.engines.common.draw_cache import CachingEngine
for batch in CachingEngine(Counting(), Path({folder!r})).draw(requests(images=1500, draws=range(2)), SAMPLER):
    print(len(batch), flush=True)
"""


@pytest.mark.slow
def test_a_run_killed_at_any_moment_loses_the_batch_in_flight_at_most(tmp_path):
    script = KILLED.format(root=str(ROOT), tests=str(ROOT / "tests"), folder=str(tmp_path))
    received = 0
    for wait in (0.1, 0.02):
        run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        run.stdout.readline()
        time.sleep(wait)
        run.kill()
        received += 6 + sum(6 for _ in run.stdout) if not received else 0
        run.wait()
    completions, new = draw(tmp_path, requests(images=1500, draws=range(2)))
    assert completions == draw(tmp_path / "other", requests(images=1500, draws=range(2)))[0]
    assert len(new) <= 3000 - received, "every batch was cached before it was returned"
