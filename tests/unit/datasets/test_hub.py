"""Data sets of the Hugging Face hub: mirrors of official ones in any order of classes, and any others as a folder."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.download_project import CLASSES, IMAGES, write_settings
from support.hub_server import SHA, Handler, serving
from support.official_sets import picture
from support.project import ROOT

from pipeline.core import tables
from pipeline.core.params import UserError, load_params
from pipeline.datasets import hub, layout, open_dataset
from pipeline.datasets.params import DataParams

DEFAULTS = replace(load_params(DataParams, ROOT / "params.yaml"), noun="")
CARS = [
    (0, "2012 Audi TTS Coupe", []),
    (1, "1994 Audi 100 Wagon", []),
    (2, "2012 Chevrolet Tahoe", ["2012 Chevy Tahoe"]),
]


def mirror(folder: Path, splits: dict[str, list], names: list[str] | None, column: str = "label", **extra) -> Path:
    """A repository of the hub with so many labels a split; `names` None are labels without names."""
    import datasets

    numbers = isinstance(next(iter(splits.values()))[0], int)
    kind = datasets.ClassLabel(names=names) if names else datasets.Value("int64" if numbers else "string")
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
    with open_dataset(name, replace(DEFAULTS, dataset=(name,), hub=str(folder), **changes)) as found:
        return found


# In the mirror's own order, the year behind and a make abbreviated.
NAMES = ["Chevy Tahoe 2012", "Audi 100 Wagon 1994", "Audi TTS Coupe 2012"]


def test_a_mirror_has_the_official_classes_whatever_its_order(cars, tmp_path):
    found = source(mirror(tmp_path / "m", {"train": [0, 1, 2, 0], "test": [2, 1, 0]}, NAMES))
    assert list(found.names) == [name for _, name, _ in CARS] and found.noun == "car"
    assert found.rows.sort("path").select("path", "class_id", "split").rows() == [
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
        "3 train, 3 test images, expected the official 4 train, 3 test",
    ),
    ({"train": [0, 1, 2, 0], "test": [2, 1, 0]}, ["Audi TTS", *NAMES[1:]], {}, "the class 'Audi TTS'"),
    ({"train": [0, 1, 1, 0], "test": [1, 1, 0]}, NAMES, {}, "no class '2012 Audi TTS Coupe'"),
    (
        {"train": [0, 1, 2, 3], "test": [2, 1, 0]},
        [*NAMES, "1994 Audi 100 Wagon"],
        {},
        "the class 'Audi 100 Wagon 1994', expected each of the official classes once",
    ),
    ({"train": [0, 1, 2, 0], "test": [2, 1, 0]}, NAMES, {"depth": 1}, "the columns image, label, depth"),
    ({"train": ["a"] * 4, "test": ["a"] * 3}, None, {"column": "make"}, "the columns image, make"),
    (
        {"train": [0, 1, 2, 0], "holdout": [2, 1, 0]},
        NAMES,
        {},
        "4 train images, expected the official 4 train, 3 test",
    ),
    ({"train": [0, 1, 2, 0], "test": [-1, -1, -1]}, NAMES, {}, "no label in test/000000"),
    ({"train": [1, 2, 3, 1], "test": [3, 2, 1]}, None, {}, "the class 1, expected each"),
    ({"train": [0, 1, 1, 0], "test": [0, 1, 0]}, None, {}, "the class 0, expected each"),
    (
        {"train": [0, 1, 2, 0], "test": [2, 1, 0], "trainval": [0]},
        NAMES,
        {},
        "the splits train, test, trainval, expected train, validation and test, each by itself",
    ),
]


@pytest.mark.parametrize(("splits", "names", "more", "said"), BAD, ids=[said for *_, said in BAD])
def test_a_mirror_that_is_none_is_one_sentence(cars, tmp_path, splits, names, more, said):
    folder = mirror(tmp_path / "m", splits, names, **more)
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        source(folder)
    assert "\n" not in str(caught.value) and "set data.path" in str(caught.value)


def test_a_mirror_knows_no_other_protocol(cars, tmp_path):
    with pytest.raises(UserError, match=r"data\.protocol coop, expected official; set it with `dvc exp run -S data\."):
        source(tmp_path / "m", protocol="coop")


def test_the_only_column_of_named_labels_may_have_any_name(cars, tmp_path):
    folder = mirror(tmp_path / "m", {"train": [0, 1, 2, 0], "test": [2, 1, 0]}, NAMES, column="make")
    assert source(folder).rows.filter(path="train/000000")["class_name"].item() == "2012 Chevrolet Tahoe"


@pytest.mark.parametrize(
    ("columns", "taken"),
    [
        (("family", "variant", "manufacturer"), "variant"),  # as mirrors of Aircraft have them
        (("family", "manufacturer"), None),
        (("label", "variant"), None),
    ],
)
def test_of_several_columns_of_labels_one_must_have_the_name_of_labels(cars, tmp_path, columns, taken):
    import datasets

    (tmp_path / "m").mkdir()
    for split, count in (("train", 4), ("test", 3)):
        rows = {"image": [{"bytes": picture(f"{split}{n}"), "path": None} for n in range(count)]}
        rows |= {column: [0, 1, 2, 0][:count] if column == taken else [0] * count for column in columns}
        labels = {column: datasets.ClassLabel(names=NAMES) for column in columns}
        features = datasets.Features({"image": datasets.Image(), **labels})
        datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "m" / f"{split}.parquet"))
    if taken:
        assert source(tmp_path / "m").rows["class_id"].n_unique() == 3
        return
    with pytest.raises(UserError, match=f"the columns image, {', '.join(columns)}, expected one column of images"):
        source(tmp_path / "m")


def test_numbers_are_labels_of_a_mirror_where_they_are_the_official_ones(cars, tmp_path):
    folder = mirror(tmp_path / "m", {"train": [0, 1, 2, 0], "test": [2, 1, 0]}, None)
    assert source(folder).rows.sort("path")["class_id"].to_list() == [2, 1, 0, 0, 1, 2, 0]
    with pytest.raises(UserError, match="numbers without names in the column label"):
        source(folder, "folder")


def test_splits_that_are_no_part_are_left_out(cars, tmp_path, capsys):
    """As in tanganke/stanford_cars, which has the test images seven times more, with noise."""
    splits = {"train": [0, 1, 2, 0], "test": [2, 1, 0], "contrast": [2, 1, 0], "motion_blur": [2, 1, 0]}
    found = source(mirror(tmp_path / "m", splits, NAMES))
    assert found.rows["split"].value_counts().sort("split").rows() == [("test", 3), ("train", 4)]
    assert "left out the splits contrast, motion_blur" in capsys.readouterr().out


def test_the_banner_of_aircraft_is_cut_off_a_mirror_too(monkeypatch, cars, tmp_path):
    monkeypatch.setitem(hub.COUNTS, "aircraft", {"train": 4, "val": 3, "test": 3})
    splits = {"train": [0, 1, 2, 0], "validation": [0, 1, 2], "test": [2, 1, 0]}
    found = source(mirror(tmp_path / "m", splits, NAMES), "aircraft")
    assert (found.crop_bottom, found.noun) == (20, "aircraft")
    assert found.rows["split"].value_counts().sort("split").rows() == [("test", 3), ("train", 4), ("val", 3)]


def test_the_images_of_the_official_parts_are_counted_as_their_authors_did():
    totals = {name: sum(counts.values()) for name, counts in hub.COUNTS.items()}
    assert totals == {"flowers": 8189, "pets": 7349, "cars": 16185, "aircraft": 10000, "cub": 11788}


def test_files_in_folders_of_their_classes_are_read_as_they_are(cars, tmp_path):
    for name in NAMES:
        for part, count in (("train", 2), ("test", 1)):
            for number in range(count):
                path = tmp_path / "m" / part / name / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(picture(f"{part}{name}{number}"))
    found = source(tmp_path / "m", "folder")
    pictures = {content: path for path, content in found.pictures(found.rows["path"])}
    about = {path: (name, part) for path, name, part in found.rows.select("path", "class_name", "split").iter_rows()}
    for name in NAMES:
        assert about[pictures[picture(f"train{name}1")]] == (name, "train")
        assert about[pictures[picture(f"test{name}0")]] == (name, "test")


def test_a_row_without_an_image_is_one_sentence(cars, tmp_path):
    folder = mirror(tmp_path / "m", {"train": [0, 1, 2, 0], "test": [2, 1, 0]}, NAMES)
    file = folder / "data" / "test-00000-of-00001.parquet"
    table = pq.read_table(file)
    images = [table["image"][0].as_py(), None, {"bytes": None, "path": "gone.jpg"}]
    pq.write_table(table.set_column(0, table.field(0), pa.array(images, table.field(0).type)), file)
    found = source(folder)
    for path in ("test/000001", "test/000002"):
        with pytest.raises(UserError, match=f"no image in {path}, expected one in every row"):
            list(found.pictures([path]))


def test_any_data_set_with_images_and_labels_is_a_folder(cars, tmp_path):
    parts = mirror(
        tmp_path / "parts", {"train": [0, 1, 1], "validation": [0], "test": [1, 0]}, ["snowy_owl", "Barn Owl"]
    )
    found = source(parts, "folder", noun="owl")
    assert found.name == "folder" and source(parts, "folder").noun == "object"
    assert list(found.names) == ["Barn Owl", "snowy owl"] and found.noun == "owl"
    assert found.rows["split"].value_counts().sort("split").rows() == [("test", 2), ("train", 3), ("val", 1)]
    whole = mirror(tmp_path / "whole", {"train": [0, 1] * 10}, ["snowy_owl", "Barn Owl"])
    found = source(whole, "folder", test_share=0.3)
    counts = found.rows.group_by("class_id", "split").len().sort("class_id", "split")
    assert counts.rows() == [(0, "test", 3), (0, "train", 7), (1, "test", 3), (1, "train", 7)]


def online(endpoint: str, home: Path, **more: str) -> dict[str, str]:
    """The environment of a process that takes `endpoint` for the hub."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "PYTHONPATH": str(ROOT)}
    return environment | {"no_proxy": "*", "HF_HUB_DISABLE_TELEMETRY": "1"} | more


PROBE = f"""
import sys
from dataclasses import replace
from pathlib import Path
from pipeline.datasets import open_dataset
from pipeline.datasets.params import DataParams
from pipeline.core.params import UserError, load_params
for hub in sys.argv[1:]:
    try:
        params = load_params(DataParams, Path({str(ROOT / "params.yaml")!r}))
        with open_dataset("folder", replace(params, hub=hub)) as found:
            print(found.licence, found.rows.height)
    except UserError as error:
        print(f"error: {{error}}")
"""


def said_of(environment: dict[str, str], *hubs: str, before: str = "") -> list[str]:
    """The lines that a process says of these data sets: what is printed, and the licence or the error."""
    command = [sys.executable, "-c", before + PROBE, *hubs]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


OWLS = ["snowy_owl", "Barn Owl"]


@pytest.mark.slow
def test_the_stage_takes_a_revision_from_a_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mirror(tmp_path / "hub" / "some" / "owls", {"train": [0, 1] * 5, "blurred": [0]}, OWLS)
    write_settings("folder", hub="some/owls@v1", test_share=0.4)
    with serving(tmp_path / "hub") as server:
        command = [sys.executable, "-m", "pipeline.stages.download"]
        environment = online(server.url, tmp_path / "hf")
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"some/owls: commit {SHA}" in done.stdout
    assert any("/v1/" in asked or asked.endswith("/v1") for asked in server.asked)
    assert not any("resolve" in asked and "blurred" in asked for asked in server.asked)
    images = tables.read(tables.IMAGES, IMAGES)
    assert images.filter(pl.col("file") == "train/000003")["image"].item() == picture("train3")
    assert images["split"].value_counts().sort("split").rows() == [("test", 4), ("train", 6)]
    assert tables.read(tables.CLASSES, CLASSES)["name"].to_list() == ["Barn Owl", "snowy owl"]


@pytest.mark.slow
def test_the_licence_is_that_of_the_card(tmp_path):
    for name, head in (
        ("owls", "license: cc-by-4.0"),
        ("two", "license: [mit, cc0-1.0]"),
        ("none", "pretty_name: Owls"),
    ):
        folder = mirror(tmp_path / "hub" / "some" / name, {"train": [0, 1], "test": [0, 1]}, OWLS)
        (folder / "README.md").write_text(f"---\n{head}\n---\n# Owls\n", encoding="utf-8")
    with serving(tmp_path / "hub") as server:
        said = said_of(online(server.url, tmp_path / "hf"), "some/owls", "some/two", "some/none")
    assert said[1::2] == [
        "some/owls states the licence cc-by-4.0. 4",
        "some/two states the licence mit, cc0-1.0. 4",
        "some/none states no licence. 4",
    ]


class Gated(Handler):
    """Shows nothing of some/gated to anyone."""

    def answer(self, body: bool) -> None:
        if "some/gated" in self.path:
            return self.send(401, b"{}", body, X_Error_Code="GatedRepo")
        return super().answer(body)


@pytest.mark.slow
def test_what_the_hub_does_not_give_is_one_sentence_with_the_next_command(tmp_path):
    root = tmp_path / "hub" / "some"
    mirror(root / "owls", {"train": [0, 1], "test": [0, 1]}, OWLS)
    mirror(root / "cascade", {"train": [0, 1], "test": [0, 1]}, OWLS)
    torn = mirror(root / "torn", {"train": [0, 1], "test": [0, 1]}, OWLS) / "data" / "test-00000-of-00001.parquet"
    torn.write_bytes(torn.read_bytes()[:-60])
    (root / "script").mkdir()
    (root / "script" / "script.py").write_text("import datasets\n", encoding="utf-8")
    hubs = ("some/nothing", "some/owls@v9", "some/gated", "some/torn", "some/script")
    with serving(tmp_path / "hub") as server:
        server.RequestHandlerClass = Gated
        said = said_of(online(server.url, tmp_path / "hf"), *hubs)
    errors = [line for line in said if not re.fullmatch(f"some/[a-z]+: commit {SHA}", line)]
    wanted = {
        "some/nothing": ("doesn't exist on the Hub", "`dvc exp run -S data.hub=owner/name@revision`"),
        "some/owls@v9": ("Revision 'v9' doesn't exist", "`dvc exp run -S data.hub=owner/name@revision`"),
        "some/gated": ("is a gated dataset", "on the page of some/gated, then `hf auth login`"),
        "some/torn": ("ArrowInvalid", "`dvc exp run -S data.hub=owner/name@revision`"),
        "some/script": ("scripts are no longer", "`dvc exp run -S data.hub=some/script@refs/convert/parquet`"),
    }
    for line, (name, (reason, command)) in zip(errors, wanted.items(), strict=True):
        assert line.startswith(f"error: data.hub {name}: ") and reason in line and command in line


@pytest.mark.slow
def test_offline_only_the_commit_asked_for_will_do(tmp_path):
    mirror(tmp_path / "hub" / "some" / "owls", {"train": [0, 1], "test": [0, 1]}, OWLS)
    with serving(tmp_path / "hub") as server:
        environment = online(server.url, tmp_path / "hf")
        assert said_of(environment, "some/owls")[0] == f"some/owls: commit {SHA}"
    environment["HF_HUB_OFFLINE"] = "1"
    again, licence, other, unknown = said_of(environment, f"some/owls@{SHA}", "some/owls@" + "6" * 40, "some/doves")
    assert again == f"some/owls: commit {SHA}" and licence.endswith(" 4")
    assert other.startswith("error: data.hub some/owls@666") and f"only the commit {SHA} in the cache" in other
    assert "Couldn't reach" in unknown and unknown.endswith("; go online and `dvc repro`, or set data.path")


@pytest.mark.slow
def test_a_hub_that_does_not_answer_is_one_sentence(tmp_path):
    at_once = "import time; time.sleep = lambda seconds: None"  # between the library's five tries, 24 s in all
    (said,) = said_of(online("http://127.0.0.1:9", tmp_path / "hf"), "some/owls", before=at_once)
    assert said.startswith("error: data.hub some/owls: ") and "go online" in said
