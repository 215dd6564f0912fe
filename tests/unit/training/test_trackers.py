"""A run as trackers show it while it trains, read by their own readers, and a log that grows with every step."""

from dataclasses import replace

import polars as pl
import pytest
from support.families import noise
from support.training import DEFAULTS, LISTS, question, questions

from pipeline.core.params import UserError
from pipeline.engines.common.loading import load_model, load_processor
from pipeline.training import trackers
from pipeline.training.checkpoints import RunFolder
from pipeline.training.run import run
from pipeline.training.trackers import require_trackers, run_name

pytestmark = pytest.mark.slow

SETTINGS = replace(
    DEFAULTS, method="sft", steps=2, prompts_per_step=2, prompts_per_device=2, check_every=1, warmup_steps=0, threads=1
)


@pytest.fixture
def train(tmp_path, base_model, monkeypatch):
    """Trains two steps with a tracker; what it returns is the log of TRL after every step."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    pictures = pl.Series("image", [noise(n) for n in range(2)])
    hard = questions(*(question(n, 0, 1, image=f"picture {n}") for n in range(2))).with_columns(pictures)

    def train(*names, scores=(0.25, 0.5, 0.75)):
        remaining, seen = list(scores), []
        processor, model = load_processor(base_model), load_model(base_model, "float32", "eager")
        run(
            hard, LISTS, replace(SETTINGS, report_to=names), model, processor, tmp_path,
            RunFolder(tmp_path / "hash" / "round-1"), lambda _: remaining.pop(0), 2, 0,
            lambda history, checks: seen.append((len(history), dict(checks))),
        )  # fmt: skip
        return seen

    return train


def test_the_log_is_seen_after_every_step(train):
    assert train() == [(1, {0: 0.25, 1: 0.5}), (2, {0: 0.25, 1: 0.5, 2: 0.75})]


def test_tensorboard_reads_the_steps_and_the_checks(train, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train("tensorboard")
    folder = tmp_path / ".work" / "live" / "hash-round-1" / "tensorboard"
    events = reader.EventAccumulator(str(folder)).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2]
    assert [(event.step, event.value) for event in events.Scalars("train/validation")] == [(1, 0.5), (2, 0.75)]


def test_trackio_reads_the_steps_and_the_checks(train, tmp_path, monkeypatch):
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    (tmp_path / "trackio").mkdir()
    for module in ("utils", "sqlite_storage"):  # which read TRACKIO_DIR when transformers imports them
        monkeypatch.setattr(f"trackio.{module}.TRACKIO_DIR", tmp_path / "trackio")
    train("trackio")
    rows = SQLiteStorage.get_logs("divek", "hash-round-1")
    rows = [row for row in rows if "train/loss" in row]
    assert [(row["train/global_step"], row["train/validation"]) for row in rows] == [(1, 0.5), (2, 0.75)]


def test_dvclive_writes_beside_the_project_and_not_into_its_dvc_yaml(train, tmp_path):
    pytest.importorskip("dvclive")
    train("dvclive")
    folder = tmp_path / ".work" / "live" / "hash-round-1" / "dvclive"
    assert pl.read_csv(folder / "plots" / "metrics" / "validation.tsv", separator="\t").rows() == [(1, 0.5), (2, 0.75)]
    assert not list(tmp_path.rglob("dvc.yaml"))


def test_a_tracker_that_is_missing_or_unknown_is_one_sentence(monkeypatch):
    require_trackers(())
    with pytest.raises(
        UserError, match=r"train\.report_to has 'comet'; each entry must be one of tensorboard, trackio"
    ):
        require_trackers(("comet",))
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    for name in trackers.INSTALL:
        with pytest.raises(
            UserError, match=f"has {name}, which is not installed; install it with `python -m pip install"
        ):
            require_trackers((name,))


def test_a_run_has_a_name_of_its_own_in_every_round(tmp_path):
    assert run_name(RunFolder(tmp_path / "hash").inner("round-2").path) == "hash-round-2"
