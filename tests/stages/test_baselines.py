"""The stage baselines, with the small CLIP and with an endpoint, and what evaluate makes of its table."""

import json
from pathlib import Path

import polars as pl
import pytest
from ruamel.yaml import YAML
from support.fake_server import Fake, answer
from support.project import ROOT

from pipeline.core import tables
from pipeline.datasets.species import SPECIES
from pipeline.evaluation.comparison import questions_to_ask
from pipeline.evaluation.results import details, report_tables
from pipeline.evaluation.scoring import score
from pipeline.evaluation.ways import names
from pipeline.fieldguide.clip_model import DESCRIPTIONS
from pipeline.fieldguide.rendering import render_tables
from pipeline.stages import baselines

pytestmark = pytest.mark.slow

OUT = Path("data/predictions/baselines.parquet")


@pytest.fixture
def set_models(tmp_path, monkeypatch, clip_folder):
    """Sets evaluate.models in a folder with tables of a few images, which becomes the current one."""
    settings = YAML().load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    settings["num_samples"], settings["predict"]["val_images"], settings["predict"]["orders"] = 3, 24, 1
    settings["sample"]["top_k"] = 0  # APIs have no such setting
    settings["coop"] |= {"shots": 2, "epochs": 2}
    settings["fudd"]["descriptions"] = str(clip_folder / DESCRIPTIONS)

    def set_models(*models):
        settings["evaluate"]["models"] = list(models)
        with (tmp_path / "params.yaml").open("w") as file:
            YAML().dump(settings, file)

    classes, images = render_tables(2, 1, 1)
    tables.write(tables.CLASSES, classes, tmp_path / "data/classes.parquet")
    tables.write(tables.IMAGES, images, tmp_path / "data/images.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return set_models


def test_without_further_models_the_table_is_empty(set_models, capsys):
    set_models()
    baselines.main()
    assert tables.read(tables.PREDICTIONS, OUT).height == 0
    assert "no further models" in capsys.readouterr().out


def test_the_stage_and_what_evaluate_makes_of_it(set_models, clip_folder, base_model, capsys):
    """Three classifiers and a vision-language model beside base and trained, all on the same images."""
    set_models(f"clip:{clip_folder}", f"coop:{clip_folder}", f"fudd:{clip_folder}", base_model)
    baselines.main()
    rows = tables.read(tables.PREDICTIONS, OUT)
    assert rows["model"].unique(maintain_order=True).to_list() == [
        *("clip_small-clip", "coop_small-clip", "fieldguide", "fudd_small-clip"),
    ]
    assert set(rows.group_by("model", "split").len().select("split", "len").rows()) == {("test", 48), ("val", 24)}
    assert "coop_small-clip: fieldguide, 48 images, loss" in capsys.readouterr().out
    own = rows.filter(model="fieldguide")
    every = pl.concat([own.with_columns(model=pl.lit(name)) for name in ("base", "trained")] + [rows])
    scored = score(every)
    result = details(scored)
    assert json.dumps(result)
    assert set(names()) <= set(result["fieldguide"])
    assert set(names()) & set(result["clip_small-clip"]) == {"one_step", "oracle"}
    assert set(names()) & set(result["fudd_small-clip"]) == {"one_step", "two_step", "oracle"}
    assert "letter_choice" not in result["clip_small-clip"] and result["fudd_small-clip"]["letter_choice"]["n"] > 20
    assert set(result["clip_small-clip"]["confidence"]) == {"one_step"}
    classes = tables.read(tables.CLASSES, Path("data/classes.parquet"))
    files = report_tables(scored, classes, 5)
    pairs = set(files["differences"].select("first", "second").rows())
    assert ("clip_small-clip one_step", "trained two_step") in pairs
    assert ("fudd_small-clip two_step", "trained two_step") in pairs
    assert ("fieldguide vote", "trained vote") in pairs
    assert not any("coop_small-clip vote" in pair for pair in pairs)
    accuracies = files["accuracies"].filter(model="clip_small-clip")
    assert set(accuracies["metric"]) == {"one_step", "oracle"} and accuracies["accuracy"].null_count() == 0
    assert set(files["draws"].columns) >= {"pass_fieldguide_base"} and "pass_clip_small-clip_base" not in files["draws"]
    assert {"one_step_clip_small-clip", "two_step_fudd_small-clip"} <= set(files["classes"].columns)
    assert "vote_clip_small-clip" not in files["classes"].columns


def test_a_model_at_an_endpoint_answers_there(set_models, monkeypatch):
    def respond(handler, body):
        handler.send(200, answer(body, text=f"<answer>{SPECIES[0].name}</answer>"))

    with Fake(otherwise=respond) as fake:
        set_models(f"org/some.model@{fake.url}")
        monkeypatch.setenv("DIVEK_API_KEY", "secret-of-the-test")
        images = tables.read(tables.IMAGES, Path("data/images.parquet"))
        tables.write(tables.IMAGES, images.filter(pl.col("class_id") % 4 == 0), Path("data/images.parquet"))
        baselines.main()
        assert {body["model"] for body in fake.bodies} == {"org/some.model"}
    rows = tables.read(tables.PREDICTIONS, OUT)
    assert set(rows["model"]) == {"some-model"} and rows["draws"].list.len().unique().to_list() == [3]
    answers = rows.filter(subset="base")["one_step"]
    assert answers.null_count() == 0 and answers.n_unique() == 1
    assert list(questions_to_ask([("base", "vote"), ("some-model", "vote")])) == ["some-model"]
