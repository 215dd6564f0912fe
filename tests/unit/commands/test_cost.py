"""What past runs took, and the estimate for a run of another size."""

import json

import polars as pl
import pytest
from support.project import ROOT
from support.scores import ROWS, frame
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.commands.cost import past_predictions
from pipeline.commands.run_estimate import CostParams, completions, rate, weighted_median
from pipeline.core import tables, timings


def run_of(images, draws=0, seconds=10.0, startup=4.0, **others):
    return {"images": images, "draws": draws, "seconds": seconds, "startup": startup, "mib": 500} | others


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with 100 images: 40 for training, 10 for validation, 20 test images, 30 of novel classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    classes = [
        {"dataset": "d", "class_id": c, "name": f"kind {c}", "subset": subset, "aliases": [], "noun": "thing"}
        for c, subset in enumerate(("base", "novel"))
    ]
    images = [("train", 0)] * 40 + [("val", 0)] * 10 + [("train", 1)] * 30 + [("test", 0)] * 10 + [("test", 1)] * 10
    rows = [
        {"image_id": f"{n:03}", "dataset": "d", "class_id": c, "split": split, "status": "ok", "image": b""}
        for n, (split, c) in enumerate(images)
    ]
    tables.write(tables.CLASSES, pl.DataFrame(classes, schema=tables.CLASSES.schema), tmp_path / "data/classes.parquet")
    tables.write(tables.IMAGES, pl.DataFrame(rows, schema=tables.IMAGES.schema), tmp_path / "data/images.parquet")
    return tmp_path


def keep(folder, stage, *lines):
    file = folder / ".work" / "rates" / f"{stage}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(json.dumps(line) for line in lines) + "\n{half a li", encoding="utf-8")


def test_a_rate_is_the_median_of_the_last_runs():
    lines = [run_of(10, seconds=99.0), *(run_of(10, seconds=4.0 + 10 * n) for n in (1, 2, 3, 4, 5))]
    result = rate(lines, "images")
    assert (result.startup, result.seconds, result.mib) == (4.0, 3.0, 500)


def test_draws_from_the_cache_cost_nothing():
    lines = [run_of(10, draws=200), run_of(10, draws=100, seconds=7.0), run_of(10, draws=0, seconds=0.5)]
    assert rate(lines, "draws").seconds == pytest.approx(6 / 200), "seconds of a draw"
    assert rate(lines[2:], "draws") is None


def test_a_run_that_mostly_read_the_cache_has_little_weight():
    whole, served = run_of(720, draws=18720, seconds=57.0), run_of(720, draws=20, seconds=20.0)
    assert rate([whole, *[served] * 9], "draws").seconds == pytest.approx(53 / 18720)
    assert rate([served], "draws").seconds == pytest.approx(16 / 20), "better than nothing"
    subset = run_of(720, draws=720, seconds=40.0)  # heavy enough to count, too light to decide
    assert rate([whole, subset, subset], "draws").seconds == pytest.approx(53 / 18720)


@pytest.mark.parametrize(
    ("values", "weights", "expected"),
    [
        ([3, 1, 2], [1, 1, 1], 2),
        ([1, 2, 3, 4], [1, 1, 1, 1], 2.5),
        ([1, 9], [3, 1], 1),
        ([9, 1, 2], [5, 2, 2], 9),
        ([7], [0.5], 7),
    ],
)
def test_the_weighted_median(values, weights, expected):
    assert weighted_median(values, weights) == expected


def predict_of(project, *arguments):
    lines = CliRunner().invoke(app, ["cost", "--images", "200", *arguments]).stdout.splitlines()
    return int(next(line.split() for line in lines if line.startswith("predict"))[5])


def test_the_k_of_a_past_run_does_not_change_the_estimate(project):
    small, large = (run_of(100, draws=100 * (k + 6), seconds=4.0 + (k + 6) / 2) for k in (20, 80))
    seconds = []
    for lines in ([small], [large], [small, large]):
        keep(project, "predict", *lines)
        seconds.append((predict_of(project), predict_of(project, "--num-samples", "40")))
    # 184 images, two models, half a second for each hundred of draws.
    assert seconds == [(8 + round(3.68 * 13), 8 + round(3.68 * 23))] * 3


def test_the_completions_of_an_image_are_those_of_past_predictions(project):
    params = CostParams(num_samples=20, topk=5, orders=5, steps=1, val_images=0, models=())
    rows = pl.DataFrame(
        {"draws": [[1] * 20, [1] * 10], "choice_text": ["a", None], "rotated": [[1, 2], []]},
        schema={name: tables.PREDICTIONS.schema[name] for name in ("draws", "choice_text", "rotated")},
    )
    assert completions(params, 20, None) == 26, "greedy and five orders, at most"
    assert completions(params, 20, rows) == 15 + 1 + 1.5, "one image stopped early, without a second question"
    assert completions(params, 40, rows) == 30 + 1 + 1.5
    assert completions(params, 20, rows.clear()) == 26
    for model in ("base", "trained"):
        path = project / f"data/predictions/{model}.parquet"
        tables.write(tables.PREDICTIONS, frame(*(row | {"model": model} for row in ROWS)), path)
    assert completions(params, 4, past_predictions()) == 4 + 1 + 0.75, "one of four had a single option"


def test_twice_the_images_take_twice_the_work(project):
    keep(project, "sample", run_of(40, draws=800, generated_tokens=8000, prompt_tokens=4000))
    keep(project, "predict", run_of(164, draws=164 * 25, seconds=45.0, generated_tokens=41000))
    keep(project, "train", {"steps": 50, "seconds": 110.0, "startup": 10.0, "mib": 2000})
    lines = CliRunner().invoke(app, ["cost", "--images", "200"]).stdout.splitlines()
    sample = next(line.split() for line in lines if line.startswith("sample"))
    assert sample[1:4] == ["80", "images", "16"], "4 to start, 6 for each 40 images"
    assert sample[5:] == ["8,000", "16,000", "500"]
    train = next(line.split() for line in lines if line.startswith("train"))
    assert train[1:4] == ["100", "steps", "210"]
    predict = next(line.split() for line in lines if line.startswith("predict"))
    seconds = 2 * 4 + 2 * (40 + 144) * 26 * 41 / (164 * 25)  # of 20 draws, the greedy answer and at most 5 orders
    assert predict[1:6] == ["2", "×", "184", "images", f"{seconds:.0f}"]
    assert lines[-1] == "not included, as no past run was recorded: download, options, filter, evaluate, report"


def test_more_draws_and_more_workers(project):
    keep(project, "sample", run_of(40, draws=800))

    def seconds(*arguments):
        output = CliRunner().invoke(app, ["cost", "--images", "100", *arguments]).stdout
        return int(next(line for line in output.splitlines() if line.startswith("sample")).split()[3])

    assert (seconds(), seconds("--num-samples", "40"), seconds("--workers", "3")) == (10, 16, 6)


def test_further_models_are_not_included(project):
    keep(project, "sample", run_of(40, draws=800))
    assert "baselines" not in CliRunner().invoke(app, ["cost", "--images", "100"]).stdout
    settings = project / "params.yaml"
    settings.write_text(
        settings.read_text(encoding="utf-8").replace("  models: []", "  models: [clip:models/some-clip]"),
        encoding="utf-8",
    )
    output = CliRunner().invoke(app, ["cost", "--images", "100"]).stdout
    assert output.endswith("not included: baselines; each of the 1 in evaluate.models has a rate of its own\n")


def test_without_a_past_run_there_is_no_estimate(project):
    result = CliRunner().invoke(app, ["cost", "--images", "100"])
    assert "no timings of past runs" in str(result.exception) and "dvc repro" in str(result.exception)


def test_only_work_is_recorded(project, monkeypatch):
    monkeypatch.setattr(timings, "_counts", timings.Counter())
    timings.save("options")
    assert timings.load("options") == []
    timings.record(images=3)
    timings.record(images=4)
    timings.save("options")
    timings.save("options")
    first, second = timings.load("options")
    assert first["images"] == second["images"] == 7 and first["seconds"] > 0 and first["mib"] > 10


def test_without_a_number_it_shows_past_runs(project):
    tokens = {"generated_tokens": 8000, "prompt_tokens": 4000}
    keep(project, "sample", run_of(40), run_of(40, draws=800, seconds=12.5, **tokens, way="shared"))
    keep(project, "train", {"steps": 100, "seconds": 140.0, "startup": 8.0, "mib": 2600})
    done = CliRunner().invoke(app, ["cost"])
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.output.splitlines()]
    assert lines[1] == ["sample", "40", "12.5", "800", "4,000", "8,000", "500", "shared"]
    assert lines[2] == ["train", "100", "140.0", "2,600"]
