"""What a user does every day: experiments, comparisons, and the commands of the README."""

import re
import shlex
import shutil
import sys

import polars as pl
from support.documents import commands
from support.project import ROOT
from support.workspace import call, copy_workspace

from pipeline.core import tables
from pipeline.datasets.drawing import draw, random_bird
from pipeline.datasets.species import SPECIES


def test_another_k_runs_options_and_what_follows_and_not_sample(experiment):
    printed = (experiment / ".git" / "printed").read_text(encoding="utf-8")
    for stage in ("options", "filter", "train", "predict@base", "predict@trained", "evaluate", "report"):
        assert f"Running stage '{stage}'" in printed
    for stage in ("download", "sample"):
        assert f"Running stage '{stage}'" not in printed
    rows = tables.read(tables.PREDICTIONS, experiment / "data" / "predictions" / "trained.parquet")
    assert rows["options"].list.len().max() <= 3


def test_a_change_fits_one_screen(experiment):
    lines = call(experiment, "dvc", "metrics", "diff", "--all").splitlines()
    assert any("trained.two_step.novel" in line for line in lines) and len(lines) <= 45
    table = call(experiment, "dvc", "exp", "show", "--only-changed", "--no-pager")
    assert "topk3" in table and "topk" in table


def test_two_runs_are_compared_by_revision_and_experiment(experiment, tmp_path):
    flips = tmp_path / "flips.csv"
    compare = (sys.executable, "-m", "pipeline", "compare", "HEAD")
    printed = call(experiment, *compare, "topk3", "--flips", str(flips))
    assert re.search(r"two_step +hm", printed) and "right in HEAD only" in printed
    assert set(pl.read_csv(flips)["right"]) <= {"first", "second"}
    refusal = call(experiment, *compare, "no-such-run", fails=True)
    assert "no-such-run" in refusal and "dvc exp show" in refusal


def test_more_draws_are_added_to_those_that_are_there(workspace):
    """In an experiment that DVC runs in a copy of the project, which shares its draws."""
    printed = call(workspace, "dvc", "exp", "run", "--temp", "-S", "num_samples=8", "sample")
    assert "72 images × 8 draws (144 new draws, 432 from the draw cache)" in printed


LONG = {
    "dvc exp run": "the tests above run experiments",
    "dvc queue start": "tests/unit/commands/test_suite.py has the queue",
    "python -m pipeline suite": "an hour; test_suite.py runs a small one",
}


def test_the_commands_of_every_day_run(experiment, tmp_path):
    """Those of the README, as they stand there, with files and an experiment of these names."""
    folder = copy_workspace(experiment, tmp_path / "workspace")
    draw(random_bird(SPECIES[0], "every day", 0)).save(folder / "photo.jpg")
    (folder / "answers.txt").write_text("Black-footed albatross\n", encoding="utf-8")
    ran = []
    for command in commands(ROOT / "README.md", "Every day"):
        if command.startswith(("source", *LONG)):
            continue
        words = shlex.split(command)
        printed = call(folder, *["topk3" if word == "exp" and words[:2] != ["dvc", "exp"] else word for word in words])
        # Nothing is what `dvc metrics diff` says of two runs with the same metrics.
        assert "Traceback" not in printed and (printed.strip() or words[:3] == ["dvc", "metrics", "diff"]), command
        ran.append(words[3] if words[0] == "python" else " ".join(words[:2]))
        call(folder, "git", "checkout", "params.yaml")
    assert {"dvc repro", "dvc metrics", "dvc plots", "dvc dag"} <= set(ran)
    assert {"classify", "preset", "compare", "cost", "paper-tables", "summary", "draws", "names", "publish"} <= set(ran)
    assert "| DiVE-k* | published | 92.9 |" in (folder / "reports/paper.md").read_text(encoding="utf-8")
    shutil.rmtree(folder)
