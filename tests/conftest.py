"""What several tests share: the committed base model, and a handful of test images."""

import shutil
from pathlib import Path

import pytest
from hypothesis import settings
from support.clip import clip_folder as clip_folder
from support.fake_server import quick as quick

ROOT = Path(__file__).parent.parent
SLOW = ("end_to_end", "browser")
WHOLLY_SLOW = "\npytestmark = pytest.mark.slow\n"

# No test is about seconds: other processes may have the cores.
settings.register_profile("project", deadline=None)
settings.load_profile("project")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Modules that are slow as a whole are not imported by the fast loop: torch and transformers take ten seconds."""
    if config.getoption("markexpr") != "not slow" or collection_path.suffix != ".py":
        return None
    return WHOLLY_SLOW in collection_path.read_text(encoding="utf-8") or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(ROOT / "tests").parts[0] in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def base_model() -> str:
    return str(ROOT / "models" / "fieldguide")


@pytest.fixture(scope="session")
def birds():
    """Classes and twelve images a split, one of every fourth species."""
    import polars as pl

    from pipeline.fieldguide.rendering import render_tables

    classes, images = render_tables(1, 1, 1)
    return classes, images.filter(pl.col("class_id") % 4 == 0).sort("class_id", "split", descending=[False, True])


@pytest.fixture(scope="session")
def run_template(tmp_path_factory) -> Path:
    from support.report_runs import write_run

    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_run()
    return folder


@pytest.fixture
def run_folder(run_template, tmp_path, monkeypatch) -> Path:
    """A copy of the run of support.report_runs, as the current folder."""
    shutil.copytree(run_template, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path
