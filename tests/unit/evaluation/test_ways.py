"""The registry of the ways to answer: an entry in it is all that a new way takes."""

import polars as pl
import pytest
from support.scores import BENCH, ROWS, frame, random_predictions, without_draws
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.commands import compare as compare_module
from pipeline.commands.summary import summary_lines
from pipeline.evaluation import metrics, ways
from pipeline.evaluation.results import details, headline, report_tables
from pipeline.evaluation.scoring import score
from pipeline.evaluation.ways import Way, measured, prepare

LAST_DRAW = Way(
    "last_draw",
    "The last draw",
    "last draw",
    "draws",
    answer=pl.col("draws").list.last(),
    headline=True,
    confidence=pl.lit(0.5),
    tokens=pl.col("draw_tokens").list.sum() + 7,
    questions=pl.lit(3),
)


@pytest.fixture
def registered():
    """One more way. Modules hold the list itself, so it is the list that changes."""
    ways.WAYS.append(LAST_DRAW)
    yield
    ways.WAYS.remove(LAST_DRAW)


@pytest.fixture
def scored(registered):
    return score(random_predictions())


def accuracy(model, subset=None):
    rows = random_predictions().filter(split="test", model=model)
    rows = rows if subset is None else rows.filter(subset=subset)
    return (rows["draws"].list.last() == rows["class_id"]).fill_null(False).mean()


def test_a_new_way_is_in_the_scores_and_details(scored):
    assert scored.scores.filter(model="base")["last_draw"].mean() == accuracy("base")
    result = details(scored)
    assert result["trained"]["last_draw"]["novel"] == pytest.approx(accuracy("trained", "novel"), abs=6e-5)
    assert set(result["trained"]["confidence"]) == {"one_step", "vote", "two_step", "last_draw"}
    short = headline(result)
    assert short["base"]["last_draw"]["base"] == result["base"]["last_draw"]["base"]


def test_a_new_way_is_in_the_tables(scored):
    files = report_tables(scored, BENCH.classes(), BENCH.TOPK)
    rows = files["accuracies"].filter(metric="last_draw", model="base", subset="total")
    assert rows["accuracy"].item() == pytest.approx(accuracy("base"), abs=6e-5) and rows["wilson_low"].item()
    costs = files["cost"].filter(answer="last_draw", model="base").row(0, named=True)
    assert (costs["draws"], costs["second_questions"], costs["generated_tokens"]) == (20, 3, 247)
    pairs = set(files["differences"].select("first", "second").rows())
    assert {("base last_draw", "trained last_draw"), ("base last_draw", "base two_step")} <= pairs
    assert "accuracy_last_draw_base_base" in files["calibration"].columns
    assert "last_draw_base_base" in files["risk_coverage"].columns
    assert "last_draw_trained" in files["classes"].columns


def test_a_new_way_is_in_the_summary(scored):
    lines = [line for line in summary_lines(details(scored)) if "last draw" in line]
    assert [float(line.split()[2]) for line in lines] == [
        pytest.approx(100 * accuracy(model, "base"), abs=0.05) for model in ("base", "trained")
    ]


def test_a_new_way_can_be_compared(registered, monkeypatch):
    monkeypatch.setattr(compare_module, "predictions", lambda revision, model: random_predictions().filter(model=model))
    monkeypatch.setattr(compare_module, "table_at", lambda *place: BENCH.classes())
    words = ["compare", "HEAD", "HEAD", "--model", "base", "--second-model", "trained", "--answer", "last_draw"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.exception
    lines = done.stdout.splitlines()
    points = 100 * (accuracy("trained") - accuracy("base"))
    line = next(line for line in lines if line.startswith("last_draw") and line.split()[1] == "total")
    assert float(line.split()[2]) == pytest.approx(points, abs=0.051)
    assert any(line.startswith("last_draw, right in trained only: ") for line in lines)


def test_the_bounds_surpass_every_answer():
    rows = metrics.scores(prepare(random_predictions()))
    for way in ways.answering():
        if way.name != "one_step":  # the greedy answer is not one of the draws
            assert (rows["pass@K"] >= rows[way.name]).all(), way.name
    assert [way.name for way in ways.WAYS if way.is_bound] == ["oracle", "pass@K"]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda rows: rows, [way.name for way in ways.WAYS]),
        (without_draws, ["one_step", "oracle"]),
        (
            lambda rows: without_draws(rows).with_columns(choice_text=pl.lit("A")),
            ["one_step", "two_step", "oracle"],
        ),
    ],
    ids=["draws", "one answer", "a choice among given options"],
)
def test_a_model_has_the_ways_of_what_it_did(change, names):
    rows = change(frame(*ROWS))
    assert [way.name for way in measured(rows)] == names
    scores = metrics.scores(prepare(rows))
    assert [way.name for way in ways.WAYS if not scores[way.name].null_count()] == names


def test_names_and_labels_are_distinct():
    for texts in zip(*((way.name, way.title, way.label) for way in ways.WAYS), strict=True):
        assert len(set(texts)) == len(texts)
        assert all(texts)


def test_no_way_by_that_name():
    with pytest.raises(KeyError):
        ways.way("guess")
