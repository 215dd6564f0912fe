"""The stage that scores predictions: the files it writes, and what it refuses."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from ruamel.yaml import YAML
from support.project import ROOT
from support.scores import BENCH, random_predictions, random_scores, without_draws

from pipeline.core import tables
from pipeline.core.params import UserError
from pipeline.evaluation.results import details, report_tables
from pipeline.evaluation.scoring import score
from pipeline.stages.evaluate import main


def with_all_classes(rows: pl.DataFrame) -> pl.DataFrame:
    """The same answers where the greedy one names a class of the other subset for every other image."""
    is_odd = pl.int_range(pl.len()) % 2 == 1
    return rows.with_columns(one_step=pl.when(is_odd).then(None).otherwise("class_id"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with tables of base, trained and a further model, where the stage has run."""
    folder = tmp_path_factory.mktemp("evaluate")
    shutil.copy(ROOT / "params.yaml", folder)
    rows = random_predictions()
    further = without_draws(rows.filter(model="base")).with_columns(model=pl.lit("clip_x"))
    for name, table in (
        ("base", rows.filter(model="base")),
        ("trained", rows.filter(model="trained")),
        ("baselines", further),
        *((f"{model}_union", with_all_classes(rows.filter(model=model))) for model in ("base", "trained")),
    ):
        tables.write(tables.PREDICTIONS, table, folder / f"data/predictions/{name}.parquet")
    tables.write(tables.CLASSES, BENCH.classes(), folder / "data/classes.parquet")
    images = rows.filter(model="base").select("image_id", "split", "class_id")
    images = [BENCH.image(*image, number) for number, image in enumerate(images.iter_rows())]
    tables.write(tables.IMAGES, pl.DataFrame(images, schema=tables.IMAGES.schema), folder / "data/images.parquet")
    for empty in (tables.SAMPLES, tables.HARD):
        tables.write(empty, pl.DataFrame(schema=empty.schema), folder / f"data/{empty.name}.parquet")
    (folder / "reports/tables").mkdir(parents=True)
    (folder / "reports/tables/arms.csv").write_text("of an older version", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("DVC_ROOT", raising=False)
        main()
    return folder


def read(folder, name):
    return json.loads((folder / "reports" / name).read_text(encoding="utf-8"))


def test_the_headline_has_at_most_40_numbers(finished):
    def count(tree):
        return sum(map(count, tree.values())) if isinstance(tree, dict) else 1

    headline, full = read(finished, "metrics.json"), read(finished, "details.json")
    assert count(headline) == 2 * 5 * 3 + 3 <= 40
    assert set(headline) == {"base", "trained", "gain"}
    for model in ("base", "trained"):
        for way, values in headline[model].items():
            assert {average: full[model][way][average] for average in values} == values
    assert headline["gain"] == full["gain"]


def test_the_details_have_every_model(finished):
    full = read(finished, "details.json")
    assert set(full) == {"base", "trained", "clip_x", "gain"}
    assert set(full["clip_x"]) >= {"one_step", "oracle", "confidence"} and "two_step" not in full["clip_x"]
    for model in ("base", "trained"):
        union = full[model].pop("union")
        assert union["one_step"]["total"] == pytest.approx(0.5, abs=0.01)
        assert union["vote"] == full[model]["vote"]
        assert full[model] == json.loads(json.dumps(details(random_scores())[model]))


def test_all_classes_as_labels_are_compared_with_those_of_the_subset(finished):
    accuracies, differences = (
        pl.read_csv(finished / f"reports/tables/{name}.csv") for name in ("accuracies", "differences")
    )
    names = ["base", "trained", "clip_x", "base_union", "trained_union"]
    assert accuracies["model"].unique(maintain_order=True).to_list() == names
    rows = differences.filter(subset="total", question="label space")
    by_pair = {(row["first"], row["second"]): row for row in rows.iter_rows(named=True)}
    row = by_pair["trained one_step", "trained_union one_step"]
    before = accuracies.row(
        by_predicate=(pl.col("model") == "trained") & (pl.col("metric") == "one_step") & (pl.col("subset") == "total"),
        named=True,
    )
    assert row["difference"] == pytest.approx(0.5 - before["accuracy"], abs=0.01)
    assert by_pair["trained vote", "trained_union vote"]["difference"] == 0
    within = differences.filter(question="ways to answer")
    assert not (within["first"].str.contains("_union") | within["second"].str.contains("_union")).any()
    assert differences.filter(question="training, all classes as labels")["first"][0].startswith("base_union ")


def test_other_images_with_all_classes_are_refused(finished, monkeypatch):
    monkeypatch.chdir(finished)
    path = Path("data/predictions/trained_union.parquet")
    before = path.read_bytes()
    tables.write(tables.PREDICTIONS, tables.read(tables.PREDICTIONS, path).head(20), path)
    with pytest.raises(UserError, match=r"do not have the images of the others; .*`dvc repro predict`"):
        main()
    path.write_bytes(before)


def test_every_table_is_one_file_and_no_older_one_stays(finished):
    scored = random_scores()
    files = report_tables(scored, BENCH.classes(), BENCH.TOPK)
    assert all(table.height for table in files.values())
    names = {path.name for path in (finished / "reports/tables").iterdir()}
    assert names == {f"{name}.csv" for name in (*files, "unmatched")}
    for name in ("draws", "early_stop", "cost", "letters", "calibration", "risk_coverage"):
        text = (finished / f"reports/tables/{name}.csv").read_text(encoding="utf-8")
        assert text == files[name].write_csv(), "a model that does not draw is not in it"


def test_the_plots_of_dvc_are_columns_of_these_tables(finished):
    plots = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    axes = [(plot["x"], plot["y"]) for entry in plots for plot in entry.values()]
    files = [(x, file, columns) for x, y in axes for file, columns in y.items() if "tables" in file]
    assert len(files) > 5
    for x, file, columns in files:
        table = pl.read_csv(finished / file)
        assert {x, *([columns] if isinstance(columns, str) else columns)} <= set(table.columns), file


def test_another_image_in_one_table_is_refused(finished, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    path = Path("data/predictions/trained.parquet")
    tables.write(tables.PREDICTIONS, tables.read(tables.PREDICTIONS, path).head(-1), path)
    with pytest.raises(UserError, match=r"\(base: 500 rows, trained: 499 rows, clip_x: 500 rows\)"):
        main()


def test_without_validation_images_nothing_is_decided():
    scored = score(random_predictions().filter(split="test"))
    trained = details(scored)["trained"]
    assert trained["vote_threshold"] is None and trained["confidence"] == {}
    assert trained["cascade"] == trained["two_step"]
    table = report_tables(scored, BENCH.classes(), BENCH.TOPK)["calibration"]
    assert table.height == 10 and not [name for name in table.columns if "fitted" in name]
