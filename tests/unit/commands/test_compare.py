"""Two runs compared on the images that both answered."""

import random

import dvc.api
import polars as pl
import pytest
from support.scores import BENCH, ROWS, clustered, frame, random_scores, without_draws
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.commands.compare import compare
from pipeline.commands.run_comparison import difference_lines, distinct_labels, flipped_images, shared_images
from pipeline.core import tables
from pipeline.core.params import UserError
from pipeline.evaluation.comparison import differences
from pipeline.evaluation.metrics import AVERAGES
from pipeline.evaluation.scoring import score
from pipeline.evaluation.ways import answering

NAMES = ("one", "two")
CLASSES = (BENCH.classes(), BENCH.classes())
ANSWERS = [way.name for way in answering()]


def run_of(seed, count=200, model="trained", dataset="bench"):
    rng = random.Random(seed)
    rows = [BENCH.prediction(rng, model, f"{dataset}{n:016x}", "test", n % 20) for n in range(count)]
    rows += [BENCH.prediction(rng, model, f"{dataset}v{n:015x}", "val", n % 10) for n in range(40)]
    return pl.DataFrame(rows, schema=tables.PREDICTIONS.schema).with_columns(dataset=pl.lit(dataset))


def classifier(seed, model):
    """A model with one answer and no draws, as CLIP is."""
    return without_draws(run_of(seed, model=model))


@pytest.fixture
def history(tmp_path, monkeypatch):
    """Two revisions, old and new, with two further models, and a way to call the command on them."""
    clip, other = classifier(5, "clip_x"), run_of(6, model="Qwen-3B")
    for number, revision in enumerate(("old", "new")):
        folder = tmp_path / revision / "data"
        classes = BENCH.classes().with_columns(name=pl.lit(f"{revision} ") + pl.col("name"))
        tables.write(tables.CLASSES, classes, folder / "classes.parquet")
        for model in ("base", "trained"):
            rows = run_of(2 * number + (model == "trained"), model=model)
            tables.write(tables.PREDICTIONS, rows, folder / "predictions" / f"{model}.parquet")
        tables.write(tables.PREDICTIONS, pl.concat([clip, other]), folder / "predictions" / "baselines.parquet")
    monkeypatch.setattr(dvc.api, "read", lambda path, rev, mode: (tmp_path / rev / path).read_bytes())

    def call(*words):
        done = CliRunner().invoke(app, ["compare", *words])
        if isinstance(done.exception, UserError):
            raise done.exception
        assert done.exit_code == 0, done.exception
        return done.stdout.splitlines()

    return call


def test_only_images_that_both_answered_are_compared():
    rows = shared_images(run_of(0), run_of(1).head(150), NAMES)
    assert rows.group_by("model", maintain_order=True).len().rows() == [("one", 150), ("two", 150)]
    assert rows["image_id"].n_unique() == 150


def test_runs_of_other_images_cannot_be_compared():
    other = run_of(1).with_columns(image_id=pl.lit("x") + pl.col("image_id"))
    with pytest.raises(UserError, match=r"one and two have no test image in common \(240 and 240 images\)"):
        shared_images(run_of(0), other, NAMES)


@pytest.mark.parametrize("ways", [*((way, way) for way in ANSWERS), ("vote", "rotated"), ("cascade", "one_step")])
def test_the_flips_are_those_that_mcnemar_counts(ways):
    rows = shared_images(run_of(0), run_of(1), NAMES)
    scored = score(rows)
    table = differences(clustered(scored.scores), {"runs": [((NAMES[0], ways[0]), (NAMES[1], ways[1]))]})
    total = table.filter(subset="total").row(0, named=True)
    flips = flipped_images(scored, NAMES, ways, CLASSES)
    counts = dict(flips["right"].value_counts().iter_rows())
    assert counts == {"first": total["only_first"], "second": total["only_second"]}
    assert (flips.filter(right="first").select(pl.col("first") == pl.col("class_id"))).to_series().all()
    assert (flips.filter(right="second").select(pl.col("second") == pl.col("class_id"))).to_series().all()


def test_the_table_has_points_intervals_and_tests():
    better = [row | {"model": "two", "two_step": row["class_id"]} for row in ROWS]
    both = frame(*(row | {"model": "one"} for row in ROWS), *better)
    pairs = [((NAMES[0], "two_step"), (NAMES[1], "two_step"))]
    lines = difference_lines(differences(clustered(score(both).scores), {"runs": pairs}))
    assert lines[0].split()[:3] == ["answer", "subset", "points"]
    base = lines[1].split()
    assert base[:3] == ["two_step", "base", "+50.0"] and lines[1].endswith("0 against 1")
    assert len(lines) == 1 + len(AVERAGES)


def test_an_unknown_answer_is_refused():
    with pytest.raises(UserError, match="--answer gist: there is no such answer; choose one of one_step, vote"):
        compare("HEAD", "HEAD", answer="gist")


def test_the_flips_of_a_cascade_use_its_threshold():
    scored = random_scores()
    is_sure = scored.test.filter(model="trained")["vote_is_sure"]
    assert is_sure.any() and not is_sure.all(), "some votes are taken, some not"
    flips = flipped_images(scored, ("trained", "trained"), ("cascade", "two_step"), CLASSES)
    vote, choice = (pl.col(name).eq_missing(pl.col("class_id")) for name in ("vote", "two_step"))
    changes = scored.test.filter("vote_is_sure", vote != choice, model="trained")
    assert sorted(flips["image_id"]) == sorted(changes["image_id"]) and changes.height


def test_flips_name_the_truth_and_both_answers(history, tmp_path):
    lines = history("old", "new", "--flips", str(tmp_path / "flips.csv"))
    places = [n for n, line in enumerate(lines) if line.startswith("two_step, right in")]
    assert [lines[n].split(":")[0] for n in places] == ["two_step, right in old only", "two_step, right in new only"]
    image, truth = lines[places[0] + 1].split("  ")[1:]
    kind, old, new = truth.split("; ")
    assert image.startswith("bench") and old == f"old: {kind}" and new.startswith("new: ") and new[5:] != kind
    assert lines[-1].endswith("more; --flips writes all of them")
    table = pl.read_csv(tmp_path / "flips.csv")
    row = table.filter(right="first").row(0, named=True)
    assert row["truth"] == row["first_class"] == f"old kind {row['class_id']}" and row["first"] == row["class_id"]
    assert row["second_class"] in (None, f"new kind {row['second']}") and row["second"] != row["class_id"]


def answers_of(lines):
    return list(dict.fromkeys(line.split()[0] for line in lines[1:] if line[0] != " " and "," not in line.split()[0]))


def test_two_models_of_one_run_are_compared(history):
    lines = history("new", "new", "--model", "base", "--second-model", "trained")
    assert answers_of(lines) == ["pass@1", *ANSWERS]
    assert any(line.startswith("two_step, right in trained only: ") for line in lines)


def test_two_answers_of_one_model_are_compared_and_nothing_else(history):
    lines = history("new", "new", "--answer", "vote", "--second-answer", "rotated")
    assert answers_of(lines) == ["vote→rotated"]
    columns = ("subset", "base", "total")
    assert len({line.index(word) for line, word in zip(lines, columns, strict=False)}) == 1
    assert any(line.startswith("vote→rotated, right in vote only: ") for line in lines)


def test_further_models_are_compared_by_their_names_in_what_both_have(history):
    lines = history("old", "new", "--model", "Qwen-3B")
    assert answers_of(lines) == ["pass@1", *ANSWERS]
    assert all("+0.0" in line for line in lines if line.startswith("two_step ")), "the same predictions"
    lines = history("new", "new", "--model", "clip_x", "--second-model", "trained")
    assert answers_of(lines) == ["one_step"] and any(line.startswith("one_step, right in clip_x") for line in lines)
    words = ("--model", "clip_x", "--second-model", "trained", "--answer", "one_step", "--second-answer", "two_step")
    assert answers_of(history("new", "new", *words)) == ["one_step→two_step"]


@pytest.mark.parametrize("model", ["baselines", "clip_y"])
def test_an_unknown_model_is_refused(history, model):
    with pytest.raises(
        UserError, match=rf"new: there is no model '{model}', only base, trained, .*Qwen-3B, .*; .*--model"
    ):
        history("new", "new", "--model", model)


def test_an_answer_that_a_model_lacks_is_refused(history):
    with pytest.raises(UserError, match=r"old clip_x has no answer vote, only one_step; .*--second-answer"):
        history("old", "new", "--model", "clip_x", "--second-model", "base", "--answer", "vote")


def test_every_data_set_has_its_rows():
    first, second = (pl.concat([run_of(seed), run_of(seed + 9, count=50, dataset="birds")]) for seed in (0, 1))
    rows = shared_images(first, second, NAMES)
    lines = difference_lines(
        differences(clustered(score(rows).scores), {"runs": [((NAMES[0], "vote"), (NAMES[1], "vote"))]})
    )
    assert lines[0].split()[:3] == ["data", "set", "answer"]
    assert list(dict.fromkeys(line.split()[0] for line in lines[1:])) == ["all", "bench", "birds"]
    assert len({line.index("vote") for line in lines[1:]} | {lines[0].index("answer")}) == 1, "in one column"


def test_labels_are_the_parts_in_which_two_runs_differ():
    assert distinct_labels(("a", "base", "vote"), ("b", "base", "vote")) == ("a", "b")
    assert distinct_labels(("a", "base", "vote"), ("a", "trained", "two_step")) == ("base vote", "trained two_step")
    assert distinct_labels(("a", "base", "vote"), ("a", "base", "vote")) == ("a", "a again")


def test_a_revision_without_the_file_is_named(monkeypatch):
    def read(path, rev, mode):
        raise FileNotFoundError(f"no such file\nin {rev}")

    monkeypatch.setattr(dvc.api, "read", read)
    with pytest.raises(UserError, match=r"^old: data/.*parquet cannot be read \(no such file\); .*`dvc exp show`"):
        compare("old", "new")
