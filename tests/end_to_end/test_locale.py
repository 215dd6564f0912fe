"""Commands in a locale without any sign beyond ASCII: files are UTF-8 all the same, and nothing is a traceback."""

import os
import shutil
import subprocess
import sys

import pytest
from support.project import ROOT

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}


def run(folder, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | ASCII
    return subprocess.run([sys.executable, "-m", *arguments], cwd=folder, env=environment, capture_output=True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("pipeline.stages.report",),
        ("pipeline", "preset", "paper"),
        ("pipeline", "names", "answers.txt", "--dataset", "cub"),
        ("pipeline", "summary"),
    ],
)
def test_a_locale_without_signs_changes_no_file_and_breaks_no_command(run_folder, arguments):
    for name in ("presets", "dvc.yaml"):
        place = ROOT / name
        shutil.copytree(place, name, dirs_exist_ok=True) if place.is_dir() else shutil.copy(place, name)
    if arguments[1:2] != ("summary",) and arguments[0] == "pipeline":
        shutil.copy(ROOT / "params.yaml", "params.yaml")
    (run_folder / "answers.txt").write_text("Brandt’s cormorant\nBrändle → gull\n", encoding="utf-8")
    done = run(run_folder, *arguments)
    assert b"Traceback" not in done.stderr and done.returncode == 0, done.stderr.decode()
    if arguments[0].endswith("report"):
        assert "–" in (run_folder / "reports" / "index.html").read_text(encoding="utf-8")
    if "preset" in arguments:
        assert "paper" in (run_folder / "params.yaml").read_text(encoding="utf-8")


def test_names_of_files_that_the_locale_cannot_express_are_counted(tmp_path):
    from PIL import Image

    shutil.copy(ROOT / "params.yaml", tmp_path)
    text = (tmp_path / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(text.replace("dataset: fieldguide", "dataset: folder"), encoding="utf-8")
    for number in range(4):
        for name in ("Grünling", "Wren"):
            (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
            Image.effect_noise((64, 64), 40 + number).save(tmp_path / "photos" / name / f"é{number}.png")
    done = run(tmp_path, "pipeline.stages.download", "--check")
    assert b"Traceback" not in done.stderr and done.returncode == 1
    assert b"pictures skipped, whose names are no text in this locale: 8" in done.stdout
