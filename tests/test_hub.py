"""Data sets of the Hugging Face hub: mirrors of official ones in any order of classes, and any others as a folder."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hub_server import serving
from imports import ROOT
from official_sets import picture
from test_download import CLASSES, write_settings

from pipeline import tables
from pipeline.datasets import hub, layout, opened
from pipeline.datasets.settings import DataParams
from pipeline.params import UserError, load

DEFAULTS = replace(load(DataParams, ROOT / "params.yaml"), noun="")
CARS = [
    (0, "2012 Audi TTS Coupe", []),
    (1, "1994 Audi 100 Wagon", []),
    (2, "2012 Chevrolet Tahoe", ["2012 Chevy Tahoe"]),
]


def mirror(folder: Path, splits: dict[str, list], names: list[str] | None, column: str = "label", **extra) -> Path:
    """A repository of the hub with so many labels a split; `names` None are labels without names."""
    import datasets

    kind = datasets.Value("string") if names is None else datasets.ClassLabel(names=names)
    features = datasets.Features({"image": datasets.Image(), column: kind, **{key: datasets.Image() for key in extra}})
    for split, labels in splits.items():
        images = [{"bytes": picture(f"{split}{n}"), "path": None} for n in range(len(labels))]
        rows = {"image": images, column: labels, **dict.fromkeys(extra, images)}
        (folder / "data").mkdir(parents=True, exist_ok=True)
        parquet = folder / "data" / f"{split}-00000-of-00001.parquet"
        datasets.Dataset.from_dict(rows, features=features).to_parquet(str(parquet))
    return folder


@pytest.fixture
def cars(monkeypatch, tmp_path):
    """Three cars, and so few of them, stand in for the official ones; the hub's cache is of this test alone."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(layout, "class_table", lambda name: CARS)
    monkeypatch.setitem(hub.COUNTS, "cars", {"train": 4, "test": 3})


def source(folder: Path | str, name: str = "cars", **changes):
    with opened(name, replace(DEFAULTS, dataset=(name,), hub=str(folder), **changes)) as found:
        return found


# In the mirror's own order, the year behind and a make abbreviated.
NAMES = ["Chevy Tahoe 2012", "Audi 100 Wagon 1994", "Audi TTS Coupe 2012"]


def test_a_mirror_has_the_official_classes_whatever_its_order(cars, tmp_path):
    found = source(mirror(tmp_path / "m", {"train": [0, 1, 2, 0], "test": [2, 1, 0]}, NAMES))
    assert list(found.names) == [name for _, name, _ in CARS] and found.noun == "car"
    assert found.rows.sort("path").select("path", "class_id", "part").rows() == [
        ("test/000000", 0, "test"), ("test/000001", 1, "test"), ("test/000002", 2, "test"),
        ("train/000000", 2, "train"), ("train/000001", 1, "train"), ("train/000002", 0, "train"),
        ("train/000003", 2, "train"),
    ]  # fmt: skip
    assert dict(found.pictures(["test/000001", "train/000003"])) == {
        "test/000001": picture("test1"),
        "train/000003": picture("train3"),
    }


def test_labels_in_words_will_do(cars, tmp_path):
    words = {"train": [NAMES[0], NAMES[1], NAMES[2], NAMES[0]], "test": NAMES}
    found = source(mirror(tmp_path / "m", words, None))
    assert found.rows.filter(path="train/000001")["class_name"].item() == "1994 Audi 100 Wagon"


BAD = [
    (
        {"train": [0, 1, 2], "test": [2, 1, 0]},
        NAMES,
        {},
        "found 3 train, 3 test images, wanted the official 4 train, 3 test",
    ),
    ({"train": [0, 1, 2, 0], "test": [2, 1, 0]}, ["Audi TTS", *NAMES[1:]], {}, "found the class 'Audi TTS'"),
    ({"train": [0, 1, 1, 0], "test": [1, 1, 0]}, NAMES, {}, "found no class '2012 Audi TTS Coupe'"),
    (
        {"train": [0, 1, 2, 3], "test": [2, 1, 0]},
        [*NAMES, "1994 Audi 100 Wagon"],
        {},
        "found the class 'Audi 100 Wagon 1994', wanted each of the official classes once",
    ),
    ({"train": [0, 1, 2, 0], "test": [2, 1, 0]}, NAMES, {"depth": 1}, "found the columns image, label, depth"),
    ({"train": [0, 1, 2, 0], "test": [2, 1, 0]}, NAMES, {"column": "make"}, ""),
    ({"train": ["a"] * 4, "test": ["a"] * 3}, None, {"column": "make"}, "found the columns image, make"),
    ({"train": [0, 1, 2, 0], "holdout": [2, 1, 0]}, NAMES, {}, "found a split 'holdout'"),
]


@pytest.mark.parametrize(("splits", "names", "more", "said"), BAD, ids=[said for *_, said in BAD])
def test_a_mirror_that_is_none_is_one_sentence(cars, tmp_path, splits, names, more, said):
    folder = mirror(tmp_path / "m", splits, names, **more)
    if not said:
        assert source(folder).rows.height == 7, "the only column of labels may have any name"
        return
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        source(folder)
    assert "\n" not in str(caught.value) and "set data.path" in str(caught.value)


def test_a_mirror_knows_no_other_protocol(cars, tmp_path):
    with pytest.raises(UserError, match=r"data\.protocol is coop, wanted official"):
        source(tmp_path / "m", protocol="coop")


def test_any_data_set_with_images_and_labels_is_a_folder(cars, tmp_path):
    parts = mirror(
        tmp_path / "parts", {"train": [0, 1, 1], "validation": [0], "test": [1, 0]}, ["snowy_owl", "Barn Owl"]
    )
    found = source(parts, "folder", noun="owl")
    assert list(found.names) == ["Barn Owl", "snowy owl"] and found.noun == "owl"
    assert found.rows["part"].value_counts().sort("part").rows() == [("test", 2), ("train", 3), ("val", 1)]
    whole = mirror(tmp_path / "whole", {"train": [0, 1] * 10}, ["snowy_owl", "Barn Owl"])
    found = source(whole, "folder", test_share=0.3)
    counts = found.rows.group_by("class_id", "part").len().sort("class_id", "part")
    assert counts.rows() == [(0, "test", 3), (0, "train", 7), (1, "test", 3), (1, "train", 7)]


def run(project: Path, endpoint: str, hub_id: str) -> subprocess.CompletedProcess:
    project.mkdir(exist_ok=True)
    os.chdir(project)
    write_settings("folder", hub=hub_id, test_share=0.4)
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(project / "hf"), "PYTHONPATH": str(ROOT)}
    environment |= {"no_proxy": "*", "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-m", "pipeline.download"]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=120)


def test_the_stage_takes_a_revision_from_a_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mirror(tmp_path / "hub" / "some" / "owls", {"train": [0, 1] * 5}, ["snowy_owl", "Barn Owl"])
    with serving(tmp_path / "hub") as server:
        done = run(tmp_path / "project", server.url, "some/owls@v1")
        assert done.returncode == 0, done.stderr
        assert any("revision/v1" in asked for asked in server.asked)
        images = tables.read(tables.IMAGES, tmp_path / "project" / "data" / "images.parquet")
        assert images.filter(pl.col("file") == "train/000003")["image"].item() == picture("train3")
        assert images["split"].value_counts().sort("split").rows() == [("test", 4), ("train", 6)]
        assert tables.read(tables.CLASSES, CLASSES)["name"].to_list() == ["Barn Owl", "snowy owl"]
        for unknown in ("some/owls@v9", "some/nothing"):
            done = run(tmp_path / "other", server.url, unknown)
            assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(
                f"error: data.hub {unknown}: found "
            )
            assert "Traceback" not in done.stderr
    done = run(tmp_path / "offline", "http://127.0.0.1:9", "some/owls")
    assert done.returncode == 1 and "error: data.hub some/owls: found " in done.stderr
