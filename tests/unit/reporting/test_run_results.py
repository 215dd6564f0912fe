"""What evaluate wrote, read and checked."""

from pathlib import Path

import pytest
from support.report_runs import read_run

from pipeline.core.params import UserError
from pipeline.evaluation.ways import WAYS
from pipeline.reporting.run_results import read_details, read_table


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a file of evaluate"),
        ("[]", "is not a file of evaluate"),
        ('{"trained": {}}', "is not a file of evaluate"),
        ('{"base": {"pass@1": {}}}', "has no base.one_step, base.vote"),
    ],
)
def test_damaged_details_are_named(tmp_path, content, message):
    (tmp_path / "details.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="`dvc repro evaluate` writes it again") as error:
        read_details(tmp_path / "details.json")
    assert str(error.value).startswith(f"{tmp_path / 'details.json'} {message}")


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("accuracies", "", "model, dataset, metric, subset"),
        ("draws", "a,b\n1\n2,3,4,5\n", "draws"),
        ("classes", "dataset,name,n\n", "subset, two_step_base"),
    ],
)
def test_a_damaged_table_is_named(tmp_path, name, content, columns):
    (tmp_path / f"{name}.csv").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=f"{name}.csv has no column {columns}.*; `dvc repro evaluate` writes it again"):
        read_table(tmp_path, name)


def test_the_run_is_about_the_trained_model_where_there_is_one(run_folder):
    results = read_run()
    assert results.models == {"base": "Before training", "trained": "After training"} and results.subject == "trained"
    assert list(results.averages) == ["base", "novel", "hm"] and results.headline == "hm" and results.datasets == []
    assert results.gain("hm")["difference"] == pytest.approx(0.3)
    del results.details["trained"]
    assert results.models == {"base": "Base model"} and results.subject == "base"


def test_every_way_to_answer_is_required(run_folder, monkeypatch):
    monkeypatch.setattr("pipeline.reporting.run_results.WAYS", [*WAYS, WAYS[0].__class__("new", "New", "new", "draws")])
    with pytest.raises(UserError, match=r"has no base\.new, trained\.new"):
        read_details(Path("reports/details.json"))
