"""python -m pipeline rehearse: the whole pipeline in small, which changes nothing of the project."""

import hashlib
import sys

from support.workspace import call, set_params


def files(folder):
    paths = [path for name in ("data", "models", "reports") for path in (folder / name).rglob("*")]
    paths += [folder / "params.yaml", folder / "dvc.lock"]
    return {path: hashlib.md5(path.read_bytes()).hexdigest() for path in paths if path.is_file()}


def rehearse(folder, fails=False):
    return call(folder, sys.executable, "-m", "pipeline", "rehearse", fails=fails)


def test_it_runs_every_stage_and_says_what_the_whole_run_takes(workspace):
    before = files(workspace)
    printed = rehearse(workspace)
    for stage in ("download", "sample", "train", "predict@base", "predict@trained", "report"):
        assert f"rehearsal: {stage}\n" in printed
    sections = printed.partition("\nAnswers of the model, verbatim\n")[2].split("\n\n")
    answers, readable, memory, whole, change = (section.splitlines() for section in sections[:5])
    assert 12 <= len(answers) <= 20 and all(line.startswith(("  draw, ", "  choice, ")) for line in answers)
    assert any("<answer>" in line for line in answers)
    assert readable[1].startswith("  draws: ok ") and readable[3].startswith("  completions in training: ")
    assert any(line.split()[0] == "train" for line in memory[1:])
    assert any(line.split()[0] == "total" for line in whole) and "2 steps" in "".join(whole)
    assert whole[-1].endswith("all its draws were cached: sample")
    assert change[:2] == ["What to change", "  nothing was found: `dvc repro` runs the whole"]
    assert files(workspace) == before
    # Its draws of training images are those of the run.
    sampled = printed.partition("rehearsal: sample\n")[2].partition("rehearsal: ")[0]
    assert "(0 new draws, " in sampled


def test_a_stage_that_fails_is_named(workspace):
    set_params(workspace, model="models/none")
    printed = rehearse(workspace, fails=True)
    assert "models/none: no such folder" in printed
    assert "the stage sample failed" in printed.partition("What to change\n")[2]
