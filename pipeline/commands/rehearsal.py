"""Runs all stages on a few images, in a folder of their own, with the project's other settings."""

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.core import tables, timings
from pipeline.core.files import work_folder, write_text
from pipeline.core.params import PARAMS_FILE, UserError, key

PER_CLASS = 2  # images of each class and split
STEPS = 2  # optimiser steps of a round
FEW = 4  # validation images
OWN = ("data", "models", "reports", "params.yaml", "dvc.lock")  # of the rehearsal; the rest of the project is linked


@dataclass(frozen=True)
class RehearsalParams:
    """The settings that a rehearsal makes smaller."""

    data_path: str = key("data.path")
    rounds: int = key("train.rounds", at_least=1)
    prompts_per_step: int = key("train.prompts_per_step", at_least=1)
    check_images: int = key("train.check_images", at_least=0)
    val_images: int = key("predict.val_images", at_least=0)


@dataclass(frozen=True)
class Command:
    """A stage of dvc.yaml, such as predict@base, and its command line."""

    stage: str
    line: str

    @property
    def name(self) -> str:
        return self.stage.partition("@")[0]


@dataclass
class Rehearsal:
    """What a rehearsal shows.

    Attributes:
        index: the whole table of images, without pictures; None where there is none.
        timings: by stage the lines that its processes recorded.
        questions: that were left to train on; -1 before the stage filter.
        failure: the stage that failed, or "".
    """

    index: pl.DataFrame | None = None
    timings: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    questions: int = -1
    failure: str = ""


def commands() -> list[Command]:
    """The stages of dvc.yaml that are not frozen, each after those that it depends on. Raises UserError."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            graph = repo.index.graph  # edges lead from a stage to those that it needs
            order = TopologicalSorter({stage: graph.successors(stage) for stage in graph}).static_order()
            return [Command(stage.addressing, str(stage.cmd)) for stage in order if stage.cmd and not stage.frozen]
    except DvcException as error:
        raise UserError(f"dvc.yaml: {error}; `dvc repro --dry` shows more") from None


def rehearse_run(params: RehearsalParams, folder: Path) -> Rehearsal:
    """Runs every stage in `folder`, which is made anew, until one fails."""
    prepare(params, folder)
    rehearsal = Rehearsal()
    for command in commands():
        before = len(timings.load(command.name))
        print(f"rehearsal: {command.stage}", flush=True)
        if _run(command.line, folder):
            rehearsal.failure = command.stage
            break
        rehearsal.timings.setdefault(command.name, []).extend(timings.load(command.name)[before:])
        if command.name == "download":
            rehearsal.index = _take_few(folder)
        if command.name == "filter":
            rehearsal.questions = tables.read(tables.HARD, folder / "data/hard.parquet").height
            if rehearsal.questions < params.prompts_per_step:
                _set(folder, {"train.prompts_per_step": rehearsal.questions or 1})
    return rehearsal


def prepare(params: RehearsalParams, folder: Path) -> None:
    """A folder with the project's files as links, and its params.yaml with few steps."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "models").mkdir(parents=True)
    root = Path.cwd()
    linked = [path for path in root.iterdir() if path.name not in OWN and not path.name.startswith(".")]
    models = root / "models"
    linked += [path for path in models.iterdir() if path.name != "policy"] if models.is_dir() else []
    for path in linked:
        (folder / path.relative_to(root)).symlink_to(path)
    shutil.copy(PARAMS_FILE, folder)
    settings: dict[str, Any] = {
        "train.steps": STEPS * params.rounds,
        "train.check_every": STEPS,
        "train.check_images": min(FEW, params.check_images),
        "predict.val_images": min(FEW, params.val_images),
    }
    if Path(params.data_path).exists():
        settings["data.path"] = str(Path(params.data_path).resolve())
    _set(folder, settings)


def _set(folder: Path, settings: dict[str, Any]) -> None:
    """Sets dotted keys of the folder's params.yaml."""
    from io import StringIO

    from ruamel.yaml import YAML

    yaml, text = YAML(), StringIO()
    file = folder / PARAMS_FILE
    tree = yaml.load(file.read_text(encoding="utf-8"))
    for dotted, value in settings.items():
        section, _, name = dotted.partition(".")
        tree[section][name] = value
    yaml.dump(tree, text)
    write_text(file, text.getvalue())


def _take_few(folder: Path) -> pl.DataFrame:
    """Leaves PER_CLASS images of each class and split in the table of images. Returns all rows, without pictures."""
    file = folder / "data/images.parquet"
    index = tables.read(tables.IMAGES, file, ["image_id", "dataset", "class_id", "split", "status"])
    few = index.filter(status="ok").group_by("dataset", "class_id", "split", maintain_order=True).head(PER_CLASS)
    tables.write(tables.IMAGES, tables.read_images(file, few["image_id"]), file)
    return index


def _run(line: str, folder: Path) -> int:
    """The exit code of a stage. Caches and timings are the project's: the draws serve the run itself."""
    words = shlex.split(line)
    program = sys.executable if words[0] == "python" else words[0]
    root = work_folder("").resolve().parent
    paths = os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH", ""))))
    environment = os.environ | {"DVC_ROOT": str(root), "PYTHONPATH": paths}
    return subprocess.run([program, *words[1:]], cwd=folder, env=environment).returncode
