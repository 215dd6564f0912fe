"""What a person sees in a terminal, and a log does not: bars, colours, help, completion."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.project import ROOT
from support.stages import STAGES, keys_read, module
from support.terminal import in_terminal
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.core import help_text
from pipeline.core.params import read_param
from pipeline.stages.sample import SampleParams

BAR = """
import time
from pipeline.core.progress import bar
with bar("birds", 30, "images") as advance:
    for _ in range(30):
        advance()
        time.sleep(0.02)
print("30 birds")
"""
COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-9]|9[0-7])[0-9;]*m")


def test_a_bar_has_a_rate_and_the_time_left():
    seen = in_terminal(BAR)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)
    assert "birds" in plain and "30/30" in plain
    assert re.search(r"\d images/s", plain) and re.search(r"\d:\d\d:\d\d", plain)
    assert COLOUR.search(seen)
    assert plain.rstrip().endswith("30 birds")


def test_no_color_is_respected():
    seen = in_terminal(BAR, NO_COLOR="1")
    assert "birds" in seen and not COLOUR.search(seen)


def test_a_log_has_no_bar():
    done = subprocess.run([sys.executable, "-c", BAR], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("30 birds\n", "")


def test_draws_are_told_in_a_terminal_only():
    code = """
from pipeline.method.class_lists import ParsedAnswer
from pipeline.method.progress import draws_bar
with draws_bar("draws", 40) as advance:
    for _ in range(40):
        advance([ParsedAnswer("", None, None, "ok", 3)])
"""
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", in_terminal(code))
    assert "40/40" in plain and "draws/s" in plain and "0.0% unreadable" in plain


@pytest.mark.parametrize("name", STAGES)
def test_help_tells_the_settings_with_their_values(name):
    done = subprocess.run([sys.executable, "-m", module(name), "--help"], cwd=ROOT, capture_output=True, text=True)
    for key in keys_read(name):
        value = read_param(key)
        line = re.search(rf"^  {re.escape(key)} = (.*)$", done.stdout, re.M)
        assert line, f"{name} --help does not tell of {key}"
        if isinstance(value, (int, str)) and not isinstance(value, bool) and value != "":
            assert line[1] == str(value)
    sentences = re.findall(r"--\S+ <[^>]*>\s+(.*?)(?=\n  --|\n\n)", done.stdout, re.S)
    assert all(re.search(r"\.(\s|$)", text) for text in sentences), "full sentences"


def test_help_without_params_is_help_all_the_same(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.stages.filter", "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "Usage" in done.stdout
    assert help_text.epilog((SampleParams,), tmp_path / "params.yaml") is None


def test_sentences_are_those_above_each_key():
    text = "# One.\n# Two.\na: 1\n\n# Of b.\nb:\n  # Three.\n  c: [] # no\n  d: x\n# Last.\ne: 2\n"
    assert help_text.sentences(text) == {"a": "One. Two.", "b": "Of b.", "b.c": "Three.", "b.d": "", "e": "Last."}


@pytest.mark.parametrize("command", ["classify", "compare", "cost", "publish", "preset", "suite", "names", "summary"])
def test_help_of_commands_is_in_sentences(command):
    shown = CliRunner().invoke(app, [command, "--help"]).stdout
    assert re.search(r"Usage: .*\n\n  [A-Z].*\.", shown, re.S) and "Traceback" not in shown


@pytest.fixture
def divek(tmp_path) -> Path:
    """The console script that an installation of the project has."""
    script = tmp_path / "divek"
    script.write_text(f"#!{sys.executable}\nfrom pipeline.__main__ import main\nmain()\n", encoding="utf-8")
    script.chmod(0o755)
    return script


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("divek cl", ["classify"]),
        ("divek p", ["preset", "paper-tables", "publish"]),
        ("divek preset qwen2", ["qwen2.5-vl-3b", "qwen2.5-vl-7b"]),
        ("divek compare HE", ["HEAD"]),
        ("divek cost --work", ["--workers"]),
    ],
)
def test_shells_complete(divek, words, wanted):
    done = subprocess.run(
        [divek],
        cwd=ROOT,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "_DIVEK_COMPLETE": "complete_bash", "COMP_WORDS": words}
        | {"COMP_CWORD": str(len(words.split()) - 1)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert set(wanted) <= set(done.stdout.split())
    assert all(word.startswith(words.split()[-1]) for word in done.stdout.split())


def test_the_completion_of_bash_is_shown(divek):
    # Through a shell: typer looks for the one that it was called from.
    done = subprocess.run(
        ["bash", "-c", f"{divek} --show-completion bash; true"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert "_DIVEK_COMPLETE=complete_bash" in done.stdout + done.stderr
