"""Runs over other data than the default: photos of one's own beside the field guide, and few shots."""

import json

import pytest
from support.workspace import run_all, set_params
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.core import tables
from pipeline.datasets.drawing import draw, random_bird
from pipeline.datasets.species import SPECIES


@pytest.fixture
def photos(tmp_path):
    """Photos of one's own: new pictures of eight species that the base model mixes up, their table, and aliases.

    A species is base or novel in both data sets: the leakage check would not have it otherwise.
    """
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = ["path,label,subset"]
    for species in (*SPECIES[:4], *SPECIES[24:28]):
        for number in range(5):
            rows.append(f"{species.class_id}-{number}.png,{species.name},{species.subset}")
            draw(random_bird(species, "own", number)).save(folder / f"{species.class_id}-{number}.png")
    (folder / "birds.csv").write_text("\n".join(rows), encoding="utf-8")
    (folder / "aliases.csv").write_text(f"name,alias\n{SPECIES[0].name},gorge bird\n", encoding="utf-8")
    return folder


def summary(folder, monkeypatch) -> str:
    monkeypatch.chdir(folder)
    return CliRunner().invoke(app, ["summary"]).stdout


def test_two_data_sets_are_trained_on_and_scored_as_one(workspace, photos, monkeypatch, capsys):
    set_params(workspace, dataset=["fieldguide", "folder"], noun="bird", data__test_share=0.4, data__path=str(photos))
    set_params(workspace, data__labels="birds.csv", data__aliases="aliases.csv")
    run_all(workspace)
    printed = capsys.readouterr().out
    assert "fieldguide: 48 classes" in printed and "folder: 8 classes" in printed
    classes = tables.read(tables.CLASSES, workspace / "data" / "classes.parquet")
    assert dict(classes["dataset"].value_counts().rows()) == {"fieldguide": 48, "folder": 8}
    images = tables.read(tables.IMAGES, workspace / "data" / "images.parquet")
    rows = tables.read(tables.PREDICTIONS, workspace / "data" / "predictions" / "trained.parquet")
    assert set(rows.filter(split="test")["image_id"]) == set(images.filter(split="test")["image_id"])
    assert set(tables.read(tables.HARD, workspace / "data" / "hard.parquet")["dataset"]) == {"fieldguide", "folder"}
    details = json.loads((workspace / "reports" / "details.json").read_text(encoding="utf-8"))["trained"]
    own = details["datasets"]
    assert details["two_step"]["base"] == pytest.approx(
        (own["folder"]["two_step"]["base"] + own["fieldguide"]["two_step"]["base"]) / 2, abs=1e-4
    )
    assert "folder" in summary(workspace, monkeypatch)


def test_few_shots_train_on_all_classes_and_have_no_novel_subset(workspace, monkeypatch):
    set_params(workspace, data__shots=2)
    run_all(workspace)
    images = tables.read(tables.IMAGES, workspace / "data" / "images.parquet")
    assert images.filter(split="train").group_by("class_id").len()["len"].to_list() == [2] * 48
    samples = tables.read(tables.SAMPLES, workspace / "data" / "samples.parquet")
    assert samples["image_id"].n_unique() == 96
    details = json.loads((workspace / "reports" / "details.json").read_text(encoding="utf-8"))
    assert details["trained"]["two_step"]["novel"] is None and details["trained"]["two_step"]["n_base"] == 48
    assert "all trained on" in (workspace / "reports" / "index.html").read_text(encoding="utf-8")
    assert "–" in summary(workspace, monkeypatch)
