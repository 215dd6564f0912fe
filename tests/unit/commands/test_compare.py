"""Two runs compared on the images that both answered."""

import random

import dvc.api
import polars as pl
import pytest
from support.scores import ROWS, frame
from test_evaluate import bench
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.commands.compare import compare, flipped, lines, shared, sides
from pipeline.core import tables
from pipeline.core.params import UserError
from pipeline.evaluation import comparison, metrics
from pipeline.evaluation.comparison import Resampled
from pipeline.evaluation.results import vote_thresholds

NAMES = ("one", "two")
CLASSES = (bench.classes(), bench.classes())


def run_of(seed, count=200, model="trained", dataset="bench"):
    rng = random.Random(seed)
    rows = [bench.prediction(rng, model, f"{dataset}{n:016x}", "test", n % 20) for n in range(count)]
    rows += [bench.prediction(rng, model, f"{dataset}v{n:015x}", "val", n % 10) for n in range(40)]
    return pl.DataFrame(rows, schema=tables.PREDICTIONS.schema).with_columns(dataset=pl.lit(dataset))


def classifier(seed, model):
    """A model with one answer and no draws, as CLIP is."""
    nothing = {
        "draws": [],
        "draw_statuses": [],
        "draw_texts": [],
        "draw_tokens": [],
        "rotated": [],
        "rotated_tokens": [],
    }
    return run_of(seed, model=model).with_columns(
        *(pl.lit(value, tables.PREDICTIONS.schema[name]).alias(name) for name, value in nothing.items()),
        choice_text=pl.lit(None, pl.String),
        vote=pl.lit(None, pl.Int64),
    )


@pytest.fixture
def history(tmp_path, monkeypatch):
    """Two revisions, old and new, with two further models, and a way to call the command on them."""
    clip, other = classifier(5, "clip_x"), run_of(6, model="Qwen-3B")
    for number, revision in enumerate(("old", "new")):
        folder = tmp_path / revision / "data"
        named = bench.classes().with_columns(name=pl.lit(f"{revision} ") + pl.col("name"))
        tables.write(tables.CLASSES, named, folder / "classes.parquet")
        for model in ("base", "trained"):
            rows = run_of(2 * number + (model == "trained"), model=model)
            tables.write(tables.PREDICTIONS, rows, folder / "predictions" / f"{model}.parquet")
        tables.write(tables.PREDICTIONS, pl.concat([clip, other]), folder / "predictions" / "rivals.parquet")
    monkeypatch.setattr(dvc.api, "read", lambda path, rev, mode: (tmp_path / rev / path).read_bytes())

    def call(*words):
        done = CliRunner().invoke(app, ["compare", *words])
        if isinstance(done.exception, UserError):
            raise done.exception
        assert done.exit_code == 0, done.exception
        return done.stdout.splitlines()

    return call


def test_only_images_that_both_answered_are_compared():
    rows = shared(run_of(0), run_of(1).head(150), NAMES)
    assert rows.group_by("model", maintain_order=True).len().rows() == [("one", 150), ("two", 150)]
    assert rows["image_id"].n_unique() == 150


def test_runs_of_other_images_cannot_be_compared():
    other = run_of(1).with_columns(image_id=pl.lit("x") + pl.col("image_id"))
    with pytest.raises(UserError, match=r"one and two answered no image alike \(240 and 240 images\)"):
        shared(run_of(0), other, NAMES)


@pytest.mark.parametrize("arms", [*((arm, arm) for arm in metrics.ARMS), ("vote", "rotated"), ("cascade", "one_step")])
def test_the_flips_are_those_that_mcnemar_counts(arms):
    rows = shared(run_of(0), run_of(1), NAMES)
    scored = metrics.scores(rows.filter(split="test"), vote_thresholds(rows.filter(split="val")))
    table = comparison.differences(Resampled(scored), [((NAMES[0], arms[0]), (NAMES[1], arms[1]))])
    total = table.filter(part="total").row(0, named=True)
    changed = flipped(rows, NAMES, arms, CLASSES)
    counts = dict(changed["right"].value_counts().iter_rows())
    assert counts == {"first": total["only_first"], "second": total["only_second"]}
    assert (changed.filter(right="first").select(pl.col("first") == pl.col("class_id"))).to_series().all()
    assert (changed.filter(right="second").select(pl.col("second") == pl.col("class_id"))).to_series().all()


def test_the_table_says_points_intervals_and_tests():
    better = [row | {"model": "two", "two_step": row["class_id"]} for row in ROWS]
    both = frame(*(row | {"model": "one"} for row in ROWS), *better)
    pairs = [((NAMES[0], "two_step"), (NAMES[1], "two_step"))]
    said = lines(comparison.differences(Resampled(metrics.scores(both)), pairs))
    assert said[0].split()[:3] == ["answer", "part", "points"]
    base = said[1].split()
    assert base[:3] == ["two_step", "base", "+50.0"] and said[1].endswith("0 against 1")
    assert len(said) == 1 + len(metrics.PARTS)


def test_an_answer_that_is_none_is_refused():
    with pytest.raises(UserError, match="--answer gist: no such answer"):
        compare("HEAD", "HEAD", answer="gist")


def test_the_classes_chosen_are_those_that_are_scored():
    rows = run_of(0, count=400)
    test, thresholds = rows.filter(split="test"), vote_thresholds(rows.filter(split="val"))
    assert 0 < thresholds["trained"] < 1, "some are gated, some not"
    scored = metrics.scores(test, thresholds)
    found = test.select("image_id", "class_id").join(metrics.chosen(test, thresholds), on="image_id")
    for arm in metrics.ARMS:
        assert found[arm].eq_missing(found["class_id"]).to_list() == (scored[arm] == 1).to_list(), arm


def test_flips_name_the_truth_and_both_answers(history, tmp_path):
    said = history("old", "new", "--flips", str(tmp_path / "flips.csv"))
    places = [n for n, line in enumerate(said) if line.startswith("two_step, right in")]
    assert [said[n].split(":")[0] for n in places] == ["two_step, right in old only", "two_step, right in new only"]
    image, truth = said[places[0] + 1].split("  ")[1:]
    kind, old, new = truth.split("; ")
    assert image.startswith("bench") and old == f"old: {kind}" and new.startswith("new: ") and new[5:] != kind
    assert said[-1].endswith("more; --flips writes all of them")
    table = pl.read_csv(tmp_path / "flips.csv")
    row = table.filter(right="first").row(0, named=True)
    assert row["truth"] == row["first_class"] == f"old kind {row['class_id']}" and row["first"] == row["class_id"]
    assert row["second_class"] in (None, f"new kind {row['second']}") and row["second"] != row["class_id"]


def answers_of(said):
    return list(dict.fromkeys(line.split()[0] for line in said[1:] if line[0] != " " and "," not in line.split()[0]))


def test_two_models_of_one_run_are_compared(history):
    said = history("new", "new", "--model", "base", "--second-model", "trained")
    assert answers_of(said) == ["pass@1", *metrics.ARMS]
    assert any(line.startswith("two_step, right in trained only: ") for line in said)


def test_two_answers_of_one_model_are_compared_and_nothing_else(history):
    said = history("new", "new", "--answer", "vote", "--second-answer", "rotated")
    assert answers_of(said) == ["vote→turned"]
    assert len({line.index(word) for line, word in zip(said, ("part", "base", "total"), strict=False)}) == 1
    assert any(line.startswith("vote→turned, right in vote only: ") for line in said)


def test_further_models_are_compared_by_their_names_in_what_both_have(history):
    said = history("old", "new", "--model", "Qwen-3B")
    assert answers_of(said) == ["pass@1", *metrics.ARMS]
    assert all("+0.0" in line for line in said if line.startswith("two_step ")), "the same predictions"
    said = history("new", "new", "--model", "clip_x", "--second-model", "trained")
    assert answers_of(said) == ["one_step"] and any(line.startswith("one_step, right in clip_x") for line in said)
    words = ("--model", "clip_x", "--second-model", "trained", "--answer", "one_step", "--second-answer", "two_step")
    assert answers_of(history("new", "new", *words)) == ["one_step→two_step"]


@pytest.mark.parametrize("model", ["rivals", "clip_y"])
def test_an_unknown_model_is_refused(history, model):
    with pytest.raises(UserError, match=rf"new: no model '{model}', wanted one of base, trained, .*Qwen-3B"):
        history("new", "new", "--model", model)


def test_an_answer_that_a_model_lacks_is_refused(history):
    with pytest.raises(UserError, match=r"old clip_x has no answer vote, wanted one of one_step; .*--second-answer"):
        history("old", "new", "--model", "clip_x", "--second-model", "base", "--answer", "vote")


def test_every_data_set_has_its_rows():
    first, second = (pl.concat([run_of(seed), run_of(seed + 9, count=50, dataset="birds")]) for seed in (0, 1))
    rows = shared(first, second, NAMES)
    scored = metrics.scores(rows.filter(split="test"))
    said = lines(comparison.differences(Resampled(scored), [((NAMES[0], "vote"), (NAMES[1], "vote"))]))
    assert said[0].split()[:3] == ["data", "set", "answer"]
    assert list(dict.fromkeys(line.split()[0] for line in said[1:])) == ["all", "bench", "birds"]
    assert len({line.index("vote") for line in said[1:]} | {said[0].index("answer")}) == 1, "in one column"


def test_sides_are_called_by_what_tells_them_apart():
    assert sides(("a", "base", "vote"), ("b", "base", "vote")) == ("a", "b")
    assert sides(("a", "base", "vote"), ("a", "trained", "two_step")) == ("base vote", "trained two_step")
    assert sides(("a", "base", "vote"), ("a", "base", "vote")) == ("a", "a again")
