"""Files and folders are complete or absent, whatever kills the process; leftovers of a killed one are removed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.project import ROOT

from pipeline.core.files import whole_file, whole_folder, work_folder, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "inner" / "a.txt"
    with whole_file(path) as partial:
        partial.write_text("new", encoding="utf-8")
        assert not path.exists() and partial.parent == path.parent
    assert path.read_text(encoding="utf-8") == "new" and names(path.parent) == ["a.txt"]


def test_an_error_leaves_the_old_file_and_folder(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old").touch()
    with pytest.raises(RuntimeError), whole_file(tmp_path / "a.txt") as partial:
        partial.write_text("half", encoding="utf-8")
        raise RuntimeError
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "b") as partial:
        (partial / "half").touch()
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "old" and names(tmp_path / "b") == ["old"]
    assert names(tmp_path) == ["a.txt", "b"]


WRITER = """
import sys, time
from pathlib import Path
from pipeline.core.files import whole_file, whole_folder
kind, path = sys.argv[1:]
with (whole_file if kind == "file" else whole_folder)(Path(path)) as partial:
    (partial if kind == "file" else partial / "inner").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "context"), [("file", whole_file), ("folder", whole_folder)])
def test_leftovers_of_a_killed_process_are_removed_and_those_of_a_living_one_stay(tmp_path, kind, context):
    path = tmp_path / "a[1].out"
    command = [sys.executable, "-c", WRITER, kind, str(path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as writer:
        assert writer.stdout.readline() == b"writing\n"
        with context(path) as partial:
            (partial if kind == "file" else partial / "inner").write_text("whole", encoding="utf-8")
        assert len(names(tmp_path)) == 2, "another process is at work on it"
        writer.send_signal(signal.SIGKILL)
    time.sleep(0.05)
    with context(path) as partial:
        (partial if kind == "file" else partial / "inner").write_text("again", encoding="utf-8")
    assert names(tmp_path) == ["a[1].out"]
    assert (path if kind == "file" else path / "inner").read_text(encoding="utf-8") == "again"


def test_the_work_folder_is_in_the_project_itself(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert work_folder("x") == tmp_path / ".work" / "x"
    monkeypatch.delenv("DVC_ROOT")
    assert work_folder("x") == Path(".work/x")
