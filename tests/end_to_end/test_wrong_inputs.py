"""Wrong settings, tables and models: one sentence with the next command, and nothing is changed."""

import re
import shutil
import sys
from pathlib import Path

import polars as pl
import pytest
from support.workspace import call, copy_workspace, inside, run_stage, set_params

from pipeline.core import tables
from pipeline.core.params import UserError


@pytest.fixture(scope="module")
def folder(clone, tmp_path_factory) -> Path:
    """A copy of the clone; each test leaves it as it was, which is what these tests are about."""
    return copy_workspace(clone, tmp_path_factory.mktemp("wrong"))


@pytest.fixture
def own_params(folder):
    before = (folder / "params.yaml").read_text(encoding="utf-8")
    yield
    (folder / "params.yaml").write_text(before, encoding="utf-8")


def sentence(folder: Path, stage: str, **options) -> str:
    with pytest.raises(UserError) as caught:
        run_stage(folder, stage, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "stage", "message"),
    [
        ("topk", 0, "options", r"topk is 0\b.*at least 2"),
        ("topk", 30, "options", r"topk is 30\b.*at most 26"),
        ("num_samples", 0, "sample", r"num_samples is 0\b.*at least 1"),
        ("dataset", "fishguide", "download", r"dataset is 'fishguide'.*fieldguide"),
        ("seed", "zero", "sample", r"seed is 'zero'.*int"),
        ("model", "models/none", "sample", r"models/none: .*no such folder"),
    ],
)
def test_bad_settings_are_one_sentence_and_change_nothing(folder, own_params, key, value, stage, message):
    outs = {path: path.read_bytes() for path in (folder / "data").rglob("*.parquet")}
    set_params(folder, **{key: value})
    assert re.search(message, sentence(folder, stage))
    assert {path: path.read_bytes() for path in (folder / "data").rglob("*.parquet")} == outs


def test_a_command_prints_the_sentence_and_fails(folder, own_params):
    set_params(folder, topk=0)
    printed = call(folder, sys.executable, "-m", "pipeline.stages.options", fails=True)
    assert printed.startswith("error: ") and printed.count("\n") == 1, printed


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:500])


def older(file: Path) -> None:
    pl.read_parquet(file).write_parquet(file, metadata={tables.FOOTER_KEY: f"{file.stem}/0"})


@pytest.mark.parametrize(("damage", "message"), [(truncated, "damaged"), (older, "/0"), (Path.unlink, "no such file")])
@pytest.mark.parametrize(
    ("stage", "option"),
    [
        ("sample", "images"),
        ("options", "samples"),
        ("filter", "questions"),
        ("train", "hard"),
        ("evaluate", "samples"),
        ("report", "images"),
    ],
)
def test_a_wrong_table_is_one_sentence(folder, tmp_path, damage, message, stage, option):
    file = tmp_path / f"{option}.parquet"
    shutil.copy(folder / "data" / file.name, file)
    damage(file)
    text = sentence(folder, stage, **{option: file})
    assert message in text and "`dvc repro " in text


def test_models_that_are_missing_or_damaged_are_one_sentence(folder, tmp_path, monkeypatch):
    # As with HF_HUB_OFFLINE=1: the hub's client tries an unknown host for half a minute.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    damaged = tmp_path / "damaged"
    shutil.copytree(folder / "models" / "policy", damaged)
    truncated(damaged / "model.safetensors")
    hub = "somebody/nothing is a model of the hub"  # and would not be asked in the field guide's language
    expected = {"models/none": "models/none: ", "somebody/nothing": hub, str(damaged): f"{damaged}: "}
    for model, text in expected.items():
        out = tmp_path / "predictions.parquet"
        assert text in sentence(folder, "predict@trained", model=model, out=out)
        assert not out.exists()


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_a_test_image_among_the_training_images_stops_training_and_evaluation(folder, tmp_path, stage):
    with inside(folder):
        images = tables.read(tables.IMAGES, Path("data/images.parquet"))
    test = images.filter(split="test").row(0, named=True)
    train = images.filter(split="train")["image_id"][0]
    same = pl.col("image_id") == train
    columns = ("content", "perceptual_hash", "image")
    images = images.with_columns(pl.when(same).then(pl.lit(test[c])).otherwise(c).alias(c) for c in columns)
    tables.write(tables.IMAGES, images, tmp_path / "images.parquet")
    text = sentence(folder, stage, images=tmp_path / "images.parquet")
    assert (
        "1 training or validation image and 1 test image show the same pictures" in text
        and train in text
        and test["image_id"] in text
    )
