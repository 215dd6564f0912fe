"""A copy of the project with tiny settings, where pipelines run: as processes, or stage by stage in this one."""

import contextlib
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.project import ROOT

TINY = {
    "num_samples": 6,
    "data.train_per_class": 3,
    "data.val_per_class": 1,
    "data.test_per_class": 1,
    "train.steps": 2,
    "train.prompts_per_step": 4,
    "train.prompts_per_device": 4,
    "train.generations": 4,
}


def call(folder: Path, *command: str, fails: bool = False) -> str:
    """What a command prints that runs in `folder`."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    # A DVC or git above, such as that of a hook that runs these tests, must not be the one that answers.
    environment = {k: v for k, v in environment.items() if not k.startswith(("GIT_", "DVC_"))}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == int(fails), f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def copy_project(folder: Path) -> None:
    """The project as it stands, in a git repository of its own."""
    files = call(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for name in filter(lambda name: (ROOT / name).is_file(), files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    call(folder, "git", "init", "-q")
    call(folder, "git", "config", "user.name", "test")
    call(folder, "git", "config", "user.email", "test@example.invalid")


def set_params(folder: Path, **values: Any) -> None:
    """Sets dotted keys of params.yaml, whose dots are written as two underscores."""
    from ruamel.yaml import YAML

    yaml = YAML()
    tree = yaml.load(folder / "params.yaml")
    for dotted, value in values.items():
        *sections, last = dotted.replace("__", ".").split(".")
        section = tree
        for name in sections:
            section = section[name]
        section[last] = value
    yaml.dump(tree, folder / "params.yaml")


def copy_workspace(source: Path, target: Path) -> Path:
    """A copy of a workspace with its git repository, DVC cache, tables and draws, free to be changed."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    return target


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Runs what follows in `folder`, as DVC would: its draws are kept there too."""
    root = os.environ.pop("DVC_ROOT", None)
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        if root is not None:
            os.environ["DVC_ROOT"] = root


def run_stage(folder: Path, name: str, **options: Any) -> None:
    """Runs a stage in this process, with the paths that dvc.yaml gives it."""
    if name.startswith("predict@"):
        label = name.removeprefix("predict@")
        model = "models/fieldguide" if label == "base" else "models/policy"
        options = {"model": model, "label": label, "out": Path(f"data/predictions/{label}.parquet")} | options
        name = "predict"
    stage = importlib.import_module(f"pipeline.stages.{name}")
    if name == "predict":
        options["label"] = stage.Label(options["label"])
    with inside(folder):
        stage.main(**options)


STAGES = (
    *("download", "sample", "options", "filter", "train"),
    *("predict@base", "predict@trained", "baselines", "evaluate", "report"),
)


def run_all(folder: Path, *names: str) -> None:
    """Runs stages in this process, all of them where none is named."""
    for name in names or STAGES:
        run_stage(folder, name)
