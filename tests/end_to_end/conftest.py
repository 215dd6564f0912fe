"""One real `dvc repro` for all tests, and one experiment on top of it. Nobody changes them: who must takes a copy."""

from pathlib import Path

import pytest
from support.workspace import TINY, call, copy_project, copy_workspace, set_params


@pytest.fixture(scope="session")
def clone(tmp_path_factory) -> Path:
    """The project with tiny settings after `dvc repro`, committed. What that printed is in .git/printed."""
    folder = tmp_path_factory.mktemp("clone")
    copy_project(folder)
    set_params(folder, **TINY)
    call(folder, "git", "add", "-A")
    call(folder, "git", "commit", "-qm", "tiny")
    (folder / ".git" / "printed").write_text(call(folder, "dvc", "repro"), encoding="utf-8")
    call(folder, "git", "add", "-A")
    call(folder, "git", "commit", "-qm", "run")
    return folder


@pytest.fixture
def workspace(clone, tmp_path) -> Path:
    """A copy of the clone that a test may change."""
    return copy_workspace(clone, tmp_path / "workspace")


@pytest.fixture(scope="session")
def experiment(clone, tmp_path_factory) -> Path:
    """A copy of the clone after `dvc exp run -S topk=3 -n topk3`. What that printed is in .git/printed."""
    folder = copy_workspace(clone, tmp_path_factory.mktemp("experiment"))
    (folder / ".git" / "printed").write_text(
        call(folder, "dvc", "exp", "run", "-n", "topk3", "-S", "topk=3"), encoding="utf-8"
    )
    return folder
