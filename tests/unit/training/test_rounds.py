"""Several rounds as one training: their statistics, their logs, and the best weights of all."""

from dataclasses import replace

import polars as pl
import pytest
from support.project import ROOT
from support.training import DEFAULTS, question, questions

from pipeline.core import tables
from pipeline.training import rounds
from pipeline.training.checkpoints import RunFolder
from pipeline.training.round_statistics import round_statistics
from pipeline.training.rounds import join_logs, with_pictures
from pipeline.training.run import RunLog

pytestmark = pytest.mark.slow


def test_questions_come_with_their_pictures():
    hard = questions(question(0, 0, 1), question(0, 0, 1, image="y"))
    images = pl.DataFrame({"image_id": ["y", "z", "x"], "image": [b"Y", b"Z", b"X"]})
    assert with_pictures(hard, images).select("image_id", "image").rows() == [("x", b"X"), ("y", b"Y")]


def test_statistics_measure_the_overlap_of_the_options():
    before = questions(question(0, 0, 1), question(0, 0, 1, image="y"))
    after = questions(question(0, 0, 2), question(0, 0, 1, image="z"))
    assert round_statistics(before, 2, None)["jaccard"] is None and round_statistics(before, 2, None)["pass@1"] == 0.5
    assert round_statistics(before, 2, None)["hard"] == 2
    assert round_statistics(after, 2, before)["jaccard"] == round(1 / 3, 4)
    assert round_statistics(after, 2, before)["questions"] == 2


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Trains two rounds without a model, with these scores by step; `left` are the hard questions of round 2."""
    rows = questions(question(0, 0, 1))
    classes = pl.DataFrame(schema=tables.CLASSES.schema)
    data = rounds.TrainingData(rows, rows, lambda: rows, rows, classes)

    def train(scores, left=rows):
        remaining = iter(scores)

        def train_round(*arguments):
            best = next(one for one in arguments if isinstance(one, RunFolder)).best
            best.mkdir(parents=True)
            (best / "config.json").touch()
            return RunLog([], [], next(remaining))

        monkeypatch.setattr(rounds, "train_round", train_round)
        monkeypatch.setattr(rounds, "redraw_questions", lambda *_: left)
        monkeypatch.setattr(rounds, "with_pictures", lambda hard, _: hard)
        return rounds.train(
            data,
            replace(DEFAULTS, model=str(ROOT / "models" / "fieldguide"), rounds=2, prompts_per_step=1),
            RunFolder(tmp_path),
            lambda log: None,
        )

    return train


@pytest.mark.parametrize(
    ("scores", "best", "reason"),
    [
        ([{0: 0.5, 1: 0.7}, {0: 0.7, 1: 0.65}], 1, "the second round is worse than its start"),
        ([{0: 0.5, 1: 0.7}, {0: 0.7, 1: 0.7}], 2, "the later one of two equals"),
        ([{0: 0.5, 1: 0.4}, {0: 0.5, 1: 0.6}], 2, "the second is better"),
        ([{0: 0.5, 1: 0.4}, {0: 0.5, 1: 0.3}], 0, "no round is as good as the model before training"),
        ([{}, {}], 2, "no checks: the last weights"),
    ],
)
def test_the_result_is_the_best_weights_of_all_rounds_and_of_the_start(train, tmp_path, scores, best, reason):
    folder = RunFolder(tmp_path).inner(f"round-{best}").best if best else ROOT / "models" / "fieldguide"
    assert train(scores).best == folder, reason


def test_training_ends_where_too_few_hard_questions_are_left(train, tmp_path, capsys):
    result = train([{0: 0.5, 1: 0.7}], left=questions())
    assert result.best == RunFolder(tmp_path).inner("round-1").best
    assert [row["round"] for row in result.rounds] == [1, 2] and result.rounds[1]["hard"] == 0
    assert "round 2: only 0 hard questions left" in capsys.readouterr().out


def test_steps_are_numbered_consecutively():
    log = RunLog([{"step": 1, "loss": 1.0}], [{"step": 1, "image_id": "a"}], {0: 0.25, 1: 0.5})
    both = join_logs(join_logs(RunLog([], [], {}), log, 0), log, 10)
    assert [entry["step"] for entry in both.history] == [1, 11] and both.checks == {0: 0.25, 1: 0.5, 11: 0.5}
    assert [row["step"] for row in both.rollouts] == [1, 11]
