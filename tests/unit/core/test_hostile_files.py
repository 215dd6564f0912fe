"""Files with faults made here: each ends in a sentence, is passed over, or is made again."""

import errno
import io
import os
import sys
import time

import numpy as np
import polars as pl
import pytest
import typer
from scipy.io import savemat
from support.project import ROOT
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.core import tables, timings
from pipeline.core.cli import exit_on_user_error
from pipeline.core.engine import GREEDY
from pipeline.core.errors import UserError, system_sentence
from pipeline.core.params import load_params
from pipeline.core.presets import preset_values
from pipeline.datasets.metadata import LARGEST_MAT, Metadata, unpacked_size
from pipeline.datasets.params import DataParams
from pipeline.engines.common.draw_cache import SCHEMA, DrawCache, _hash, sizes

DEEP = "[" * 1500 + "]" * 1500
YAML_FAULTS = {
    "deep": DEEP,
    "tag of Python": "a: !!python/object/apply:os.system ['touch marker']",
    "other tag": "a: !mine 5",
    "alias of itself": "a: &x [*x]",
    "no such alias": "a: *x",
    "no such day": "a: 2026-99-99",
    "list as a key": "? [1]\n: 2",
    "key twice": "a: 1\na: 2",
    "control character": "a: \x01",
    "tab": "a:\n\t- b",
    "huge number": f"a: {'9' * 5000}",
    "huge number in hexadecimal": f"seed: 0x{'f' * 6000}",
    "no number": "seed: !!int ''",
    "section in itself": "a: &x {b: *x}",
    "nothing": "",
    "a list": "- a",
}


@pytest.mark.parametrize("fault", YAML_FAULTS)
def test_yaml_with_faults_is_a_sentence_in_params_and_presets(tmp_path, monkeypatch, fault):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(YAML_FAULTS[fault], encoding="utf-8")
    for read in (lambda: load_params(DataParams, tmp_path / "x.yaml"), lambda: preset_values(tmp_path / "x.yaml")):
        try:
            read()
        except UserError as error:
            assert "\n" not in str(error) and len(str(error)) < 600
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("content", [b"5", b"[]", b"null", b"a: \xe9", DEEP.encode(), b"a: !mine 5"])
def test_a_preset_with_faults_leaves_params_as_they_are(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("topk: 5\n", encoding="utf-8")
    (tmp_path / "mine.yaml").write_bytes(content)
    result = CliRunner().invoke(app, ["preset", "mine.yaml"])
    assert isinstance(result.exception, UserError) and "\n" not in str(result.exception)
    assert (tmp_path / "params.yaml").read_text(encoding="utf-8") == "topk: 5\n"


def test_a_line_that_becomes_a_million_keys_is_looked_at_for_a_moment(tmp_path):
    """Ten levels of ten aliases: ten thousand million keys in four hundred bytes."""
    lines = ["a0: &a0 {x: 1}"] + [
        f"a{n}: &a{n} {{{', '.join(f'k{i}: *a{n - 1}' for i in range(10))}}}" for n in range(1, 11)
    ]
    text = (ROOT / "params.yaml").read_text(encoding="utf-8") + "\n" + "\n".join(lines) + "\n"
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="there is no setting"):
        load_params(DataParams, tmp_path / "params.yaml")


def test_the_sentence_says_what_is_wrong_and_where(tmp_path):
    (tmp_path / "params.yaml").write_text("topk: 5\nfoo: a: b\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"\(line 2, column 7: mapping values are not allowed"):
        load_params(DataParams, tmp_path / "params.yaml")


@pytest.mark.parametrize("line", ["5", "null", "[]", '"x"', '{"draws": "many"}', "{", '{"draws": null}', "[" * 100_000])
def test_a_timing_with_faults_is_passed_over(tmp_path, monkeypatch, line):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    folder = tmp_path / ".work" / "rates"
    folder.mkdir(parents=True)
    (folder / "sample.jsonl").write_text(f'{line}\n{{"draws": 20, "seconds": 1.5}}\n', encoding="utf-8")
    assert timings.load("sample") == [{"draws": 20, "seconds": 1.5}]


def test_a_clock_that_jumps_back_changes_no_duration(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    timings.record(draws=1)
    timings.save("sample")
    assert timings.load("sample")[-1]["seconds"] >= 0


def rows(count: int = 1) -> pl.DataFrame:
    values = [("x", "q", GREEDY + n, "t", 1, True, None) for n in range(count)]
    return pl.DataFrame(values, schema=SCHEMA, orient="row")


@pytest.mark.parametrize("columns", [{"other": [1]}, {"image_id": [1]}, {}])
def test_a_shard_with_the_right_hash_and_other_columns_is_set_aside(tmp_path, capsys, columns):
    cache = DrawCache(tmp_path, {"engine": {"engine": "e", "model": "m"}, "sampler": {}})
    cache.add(rows())
    content = io.BytesIO()
    pl.DataFrame(columns).write_parquet(content)
    file = cache.folder / f"{_hash(content.getvalue())}.parquet"
    file.write_bytes(content.getvalue())
    assert cache.read().height == 1
    assert "damaged, renamed to" in capsys.readouterr().err and not file.exists()


@pytest.mark.parametrize(
    "content", ["", "5", "[]", "{}", '{"engine": 5, "sampler": 5}', "[" * 100_000, '{"engine": {}}']
)
def test_a_description_of_draws_with_faults_is_passed_over(tmp_path, capsys, content):
    good, bad = (DrawCache(tmp_path, {"engine": {"engine": "e", "model": m}, "sampler": {}}) for m in "mn")
    for cache in (good, bad):
        cache.add(rows())
    (bad.folder / "about.json").write_text(content, encoding="utf-8")
    assert [about["engine"]["model"] for about, *_ in sizes(tmp_path)] == ["m"]
    assert "about.json: damaged" in capsys.readouterr().err


def test_a_matlab_file_that_unpacks_to_more_than_the_official_ones_is_refused(tmp_path):
    file = tmp_path / "setid.mat"
    savemat(file, {"trnid": np.zeros((1, LARGEST_MAT // 8 + 1))}, do_compression=True)
    assert file.stat().st_size < LARGEST_MAT / 100 and unpacked_size(file.read_bytes()) > LARGEST_MAT
    with pytest.raises(UserError, match=r"setid\.mat: more than 16,777,216 bytes once unpacked"):
        Metadata(file, "take the official one").mat("trnid")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "No space left on device; nothing half-written is left: make room"),
        (errno.EFBIG, "File too large; nothing half-written is left"),
        (errno.EROFS, "Read-only file system; make it writable"),
        (errno.EACCES, "Permission denied; make it writable, or readable"),
        (errno.EIO, "Input/output error; run the same command again once that is fixed"),
    ],
)
def test_what_the_system_refuses_is_a_sentence(monkeypatch, capsys, code, words):
    error = OSError(code, os.strerror(code), "data/x")
    assert words in system_sentence(error)
    failing = typer.Typer()

    @failing.command()
    def command() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit) as caught:
        exit_on_user_error(failing)
    assert caught.value.code == 1
    assert capsys.readouterr().err == f"error: {system_sentence(error)}\n"


def test_a_full_disk_leaves_the_old_table(tmp_path, monkeypatch):
    frame = pl.DataFrame(
        [{"dataset": "b", "class_id": 0, "name": "w", "subset": "base", "aliases": [], "noun": "bird", "group": None}],
        schema=tables.CLASSES.schema,
    )
    tables.write(tables.CLASSES, frame, tmp_path / "classes.parquet")
    before = (tmp_path / "classes.parquet").read_bytes()

    def full(*_, **__):
        raise pl.exceptions.ComputeError("No space left on device (os error 28)")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(OSError, match="No space left on device"):
        tables.write(tables.CLASSES, frame, tmp_path / "classes.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["classes.parquet"]
    assert (tmp_path / "classes.parquet").read_bytes() == before
