"""CLIP, prompt learning and pairwise descriptions on a small CLIP raised on drawn birds; the stage around them."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from ruamel.yaml import YAML
from support.fake_server import Fake, answer, status
from support.project import ROOT

from pipeline.baselines import fudd
from pipeline.baselines.classifier import Classifier, ClassifierParams, shots
from pipeline.baselines.clip import Clip
from pipeline.baselines.coop import Context
from pipeline.baselines.further_models import parse_models
from pipeline.core import tables
from pipeline.core.params import UserError, load_params
from pipeline.datasets.species import SPECIES
from pipeline.evaluation.comparison import pairs_to_compare
from pipeline.evaluation.results import details, report_tables
from pipeline.evaluation.scoring import score
from pipeline.evaluation.ways import TRUTH_OFFERED, names
from pipeline.fieldguide.clip_model import DESCRIPTIONS, descriptions, train_clip
from pipeline.fieldguide.rendering import render_tables
from pipeline.method.class_lists import ClassLists
from pipeline.method.predictions import prediction_table
from pipeline.stages import baselines

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A CLIP after 240 steps, with its descriptions, as `python -m pipeline.fieldguide.clip_model` writes it."""
    target = tmp_path_factory.mktemp("models") / "small.clip"
    for part in train_clip(240, seed=0, threads=2, birds=1600, report=lambda _: None):
        part.save_pretrained(target)
    (target / DESCRIPTIONS).write_text(descriptions())
    return target


@pytest.fixture(scope="module")
def world():
    """Classes, and images of the field guide: eight of each class to learn from, one to validate, three to test."""
    return render_tables(8, 1, 3)


@pytest.fixture(scope="module")
def asked(folder) -> ClassifierParams:
    settings = load_params(ClassifierParams, ROOT / "params.yaml")
    return replace(settings, threads=2, shots=0, concurrency=4, descriptions=str(folder / DESCRIPTIONS))


def answers(kind, folder, asked, world, split="test"):
    """The table of predictions for the images of a split."""
    classes, images = world
    subsets = classes.select("dataset", "class_id", "subset")
    train = shots(images, classes, asked.shots, asked.seed) if kind == "coop" else images.clear()
    classifier = Classifier(kind, str(folder), kind, asked, ClassLists(classes), train)
    test = images.filter(split=split).join(subsets, on=["dataset", "class_id"])
    return prediction_table(*classifier.answer(test), kind, 0.1)


@pytest.fixture(scope="module")
def zero_shot(folder, asked, world):
    return answers("clip", folder, asked, world)


@pytest.fixture(scope="module")
def told_apart(folder, asked, world):
    return answers("fudd", folder, asked, world)


def share(rows, arm="one_step"):
    return rows.filter(pl.col(arm) == pl.col("class_id")).height / rows.height


def test_zero_shot_answers_every_image_with_a_class_of_its_own_half(zero_shot, world):
    classes, images = world
    assert set(zero_shot["image_id"]) == set(images.filter(split="test")["image_id"])
    half_of = dict(classes.select("class_id", "subset").rows())
    assert all(half_of[c] == subset for c, subset in zero_shot.select("one_step", "subset").rows())
    # One of 24 by chance.
    assert share(zero_shot) > 0.2
    offered = zero_shot.select(TRUTH_OFFERED.alias("offered"))["offered"].mean()
    assert offered > 0.7
    assert zero_shot["draws"].list.len().sum() == 0
    assert zero_shot["choice_text"].null_count() == zero_shot.height
    assert zero_shot["greedy_probability"].is_between(1 / 24, 1).all()


def test_an_image_that_cannot_be_opened_is_a_wrong_answer(folder, asked, world):
    classes, images = world
    broken = images.filter(split="test").head(20).with_row_index("row")
    first = pl.col("row") == 0
    broken = broken.with_columns(
        status=pl.when(first).then(pl.lit("error")).otherwise("status"),
        image=pl.when(first).then(pl.lit(b"")).otherwise("image"),
        reason=pl.when(first).then(pl.lit("cut off")).otherwise("reason"),
    ).drop("row")
    table = answers("clip", folder, asked, (classes, broken))
    row = table.filter(image_id=broken["image_id"][0]).row(0, named=True)
    assert (row["greedy_status"], row["status"], row["one_step"], row["greedy_text"]) == (
        "error",
        "error",
        None,
        "cut off",
    )
    assert table.height == 20 and table.filter(greedy_status="ok").height == 19


def test_learned_words_start_as_the_words_themselves(folder):
    import torch

    clip, names = Clip(str(folder)), [species.name for species in SPECIES[:5]]
    context = Context(clip, "a photo of a")
    assert torch.allclose(context.classes(names), clip.texts([f"a photo of a {name}." for name in names]), atol=1e-6)
    clip.texts(["a photo of a bird."])
    assert not clip.model.text_model.embeddings.token_embedding._forward_hooks, "the model reads as before"


def test_learned_words_are_those_of_the_gradient_alone(folder):
    """What the text tower makes of the embeddings put together by hand, and which weights move."""
    import torch

    clip, names = Clip(str(folder)), [species.name for species in SPECIES[:3]]
    context = Context(clip, "a photo of a")
    before = {name: weight.clone() for name, weight in clip.model.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(12, 128, generator=generator), dim=-1)
    labels = torch.arange(12) % 3
    start = context.vectors.detach().clone()
    losses = context.learn(images, labels, names, epochs=30, rate=0.5, seed=0)
    assert losses[-1] < losses[0] - 0.05, "even where pictures tell little, words can be fitted to them"
    assert not torch.equal(context.vectors, start)
    assert all(torch.equal(weight, before[name]) for name, weight in clip.model.state_dict().items())
    again = Context(clip, "a photo of a")
    assert again.learn(images, labels, names, epochs=30, rate=0.5, seed=0) == losses
    assert torch.equal(again.vectors, context.vectors)


def test_prompt_learning_mends_words_that_mislead(folder, asked, world, capsys):
    """On the pictures that it learns from: 36 others are too few to tell."""
    misled = replace(asked, context="finch finch finch finch", rate=0.3, epochs=1)
    learned = replace(misled, epochs=60)
    before, after = (answers("coop", folder, one, world, "train").filter(subset="base") for one in (misled, learned))
    assert before.height == 192 and share(after) > share(before)
    first, last = re.findall(r"loss ([\d.]+) to ([\d.]+)", capsys.readouterr().out)[1]
    assert float(last) < float(first) - 0.15


def test_words_that_are_no_start_of_the_text_are_refused(folder):
    with pytest.raises(UserError, match="the tokenizer reads otherwise"):
        Context(Clip(str(folder)), "")


def test_shots_are_of_base_classes_and_drawn_by_seed(world):
    classes, images = world
    some = shots(images, classes, 3, seed=1)
    counts = some.group_by("class_id").len()
    assert counts["len"].to_list() == [3] * 24 and set(some["split"]) == {"train"}
    assert set(some["class_id"]) == set(classes.filter(subset="base")["class_id"])
    assert some["image_id"].to_list() != shots(images, classes, 3, seed=2)["image_id"].to_list()
    assert shots(images, classes, 0, seed=1).height == 24 * 8


def test_descriptions_choose_among_the_most_probable(told_apart, zero_shot):
    assert told_apart["one_step"].equals(zero_shot["one_step"]), "the first look is the same"
    asked_twice = told_apart.filter(pl.col("choice_text").is_not_null())
    assert asked_twice.height == told_apart.height
    assert (told_apart["two_step"] != told_apart["one_step"]).any()
    options = told_apart["options"].list.eval(pl.element().struct.field("class_id"))
    assert all(chosen in offered for chosen, offered in zip(told_apart["two_step"], options, strict=True))
    assert share(told_apart, "two_step") > share(zero_shot) - 0.05
    row = told_apart.row(0, named=True)
    assert re.fullmatch(r"<think>(a photo of .*)</think><answer>[A-E]</answer>", row["choice_text"])


def test_a_class_is_the_mean_of_what_tells_it_from_the_others(folder):
    import torch

    clip = Clip(str(folder))
    a, b, c = (SPECIES[i].name for i in (0, 1, 7))
    told = {(a, b): ("a photo of a finch.", "a photo of a jay."), (a, c): ("a photo of a bird.",), (b, a): ("bird",)}
    image = torch.nn.functional.normalize(torch.randn(128, generator=torch.Generator().manual_seed(0)), dim=-1)
    vectors = [
        clip.texts(["a photo of a finch.", "a photo of a jay.", "a photo of a bird."]).mean(0),
        clip.texts(["bird"])[0],
        clip.texts([f"name {c}"])[0],
    ]
    wanted = torch.stack([clip.scale * image @ (vector / vector.norm()) for vector in vectors]).softmax(0)
    found = fudd.second_look(clip, image, [a, b, c], told, lambda name: f"name {name}")
    assert torch.allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("reply", "first", "second"),
    [
        ("1: a photo of a red bird\n2: a photo of a blue bird", ["a photo of a red bird"], ["a photo of a blue bird"]),
        ("Here you are:\n- 1. red\n- 2) blue\n", ["red"], ["blue"]),
        ("(1) red: very\n\n  2 : blue  \n1: crested", ["red: very", "crested"], ["blue"]),
        ("3: neither\n12: twelve\n1:\n", [], []),
        ("I cannot say.", [], []),
    ],
)
def test_captions_are_read_line_by_line(reply, first, second):
    assert fudd.captions(reply) == (tuple(first), tuple(second))


def written_by(folder, asked, world, reply, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    seen = []

    def says(handler, body):
        text = body["messages"][-1]["content"][0]["text"]
        seen.append(re.findall(r"^[12]\. (.*)$", text, re.M))
        handler.send(200, answer(body, text=reply(*seen[-1])))

    with Fake(otherwise=says) as fake:
        own = replace(asked, descriptions="", writer="m", writer_endpoints=(fake.url,), writer_key_variable="K")
        tables_of = [answers("fudd", folder, own, world) for _ in range(2)]
    return seen, tables_of


def test_a_language_model_writes_about_each_pair_once(folder, asked, world, told_apart, tmp_path, monkeypatch):
    """It writes what the file says, and so the same is chosen; the second run asks nothing."""
    rows = pl.read_csv(io.StringIO(descriptions()))
    told = {(name, other): texts for name, other, texts in rows.group_by("name", "other").agg("description").rows()}

    def reply(first, second):
        return "\n".join([f"1: {t}" for t in told[first, second]] + [f"2: {t}" for t in told[second, first]])

    seen, found = written_by(folder, asked, world, reply, tmp_path, monkeypatch)
    assert len({tuple(pair) for pair in seen}) == len(seen) and all(pair == sorted(pair) for pair in seen)
    assert all(table["two_step"].equals(told_apart["two_step"]) for table in found)


def test_replies_without_captions_are_an_error(folder, asked, world, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"fudd: none of the [\d,]+ pairs of options has a description"):
        written_by(folder, asked, world, lambda *_: "I cannot say.", tmp_path, monkeypatch)


def test_a_failed_request_is_an_error(folder, asked, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Fake(otherwise=status(500)) as fake, pytest.raises(UserError, match=r"fudd.model: .* `dvc repro baselines`"):
        own = replace(
            asked, descriptions="", writer="m", writer_endpoints=(fake.url,), writer_key_variable="K", retries=0
        )
        answers("fudd", folder, own, world)


def test_names_of_the_file_are_read_by_the_matcher(folder, asked, world, told_apart, tmp_path):
    spelled = descriptions().replace("hook-billed", "Hook Billed").replace("kingfisher", "Kingfishers")
    lines = [
        ",".join([*(p.replace("-", " ") for p in line.split(",", 2)[:2]), line.split(",", 2)[2]])
        for line in spelled.splitlines()
    ]
    (tmp_path / "d.csv").write_text("\n".join(lines).replace("a photo of a Kingfishers", "a photo of a kingfisher"))
    text = (tmp_path / "d.csv").read_text().replace("Hook Billed.", "hook-billed.")
    (tmp_path / "d.csv").write_text(text)
    found = answers("fudd", folder, replace(asked, descriptions=str(tmp_path / "d.csv")), world)
    assert found["two_step"].equals(told_apart["two_step"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "cannot be read"),
        (
            "d.csv",
            "name,description\na,b\n",
            r"expected a CSV or Parquet file with the columns name, other, description",
        ),
        ("d.parquet", "no Parquet", "cannot be read"),
        ("d.csv", "name,other,description\nrobin,wren,a red breast\n", "none of the"),
    ],
)
def test_bad_descriptions_are_said(folder, asked, world, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        answers("fudd", folder, replace(asked, descriptions=str(tmp_path / name)), world)


def test_fudd_without_any_source_says_where_to_name_one(folder, asked, world):
    with pytest.raises(UserError, match=r"needs fudd.descriptions.*-S fudd.descriptions="):
        answers("fudd", folder, replace(asked, descriptions="", writer=""), world)


def test_what_is_no_clip_is_refused(base_model):
    with pytest.raises(UserError, match="the model is of type qwen2_5_vl, not clip"):
        Clip(base_model)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "clip:openai/clip-vit-base-patch16",
            ("clip", "openai/clip-vit-base-patch16", "", "clip_clip-vit-base-patch16"),
        ),
        ("models/other/", ("", "models/other/", "", "other")),
        ("Qwen/Qwen2.5-VL-3B-Instruct", ("", "Qwen/Qwen2.5-VL-3B-Instruct", "", "Qwen2-5-VL-3B-Instruct")),
        ("gpt@https://api.example/v1", ("", "gpt", "https://api.example/v1", "gpt")),
        ("org/m@http://localhost:8000/v1", ("", "org/m", "http://localhost:8000/v1", "m")),
        ("fudd:models/x", ("fudd", "models/x", "", "fudd_x")),
    ],
)
def test_rivals_are_named(text, wanted):
    (found,) = parse_models((text,))
    assert (found.kind, found.source, found.endpoint, found.label) == wanted


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (("a/m", "b/m"), "another model is called m too"),
        (("models/trained",), "another model is called trained too"),
        (("clip:",), "each entry must be a model folder"),
        (("@http://x/v1",), "each entry must be a model folder"),
        (("clip:m@http://x/v1",), "each entry must be a model folder"),
    ],
)
def test_rivals_that_cannot_be_told_apart_are_refused(models, message):
    with pytest.raises(UserError, match=message):
        parse_models(models)


@pytest.fixture
def project(tmp_path, monkeypatch, folder):
    """A folder with settings and tables of a few images, in which stages run."""
    settings = YAML().load((ROOT / "params.yaml").read_text())
    settings["num_samples"], settings["predict"]["val_images"], settings["predict"]["orders"] = 3, 24, 1
    settings["coop"] |= {"shots": 2, "epochs": 2}
    settings["fudd"]["descriptions"] = str(folder / DESCRIPTIONS)

    def named(*models):
        settings["evaluate"]["models"] = list(models)
        with (tmp_path / "params.yaml").open("w") as file:
            YAML().dump(settings, file)

    classes, images = render_tables(2, 1, 1)
    tables.write(tables.CLASSES, classes, tmp_path / "data/classes.parquet")
    tables.write(tables.IMAGES, images, tmp_path / "data/images.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return named


def test_no_rivals_are_an_empty_table(project, capsys):
    project()
    baselines.main()
    assert tables.read(tables.PREDICTIONS, Path("data/predictions/baselines.parquet")).height == 0
    assert "no further models" in capsys.readouterr().out


def test_the_stage_and_what_evaluate_makes_of_it(project, folder, base_model, tmp_path, capsys):
    """Three classifiers and a vision-language model beside base and trained, all on the same images."""
    project(f"clip:{folder}", f"coop:{folder}", f"fudd:{folder}", base_model)
    baselines.main()
    rows = tables.read(tables.PREDICTIONS, Path("data/predictions/baselines.parquet"))
    assert rows["model"].unique(maintain_order=True).to_list() == [
        *("clip_small-clip", "coop_small-clip", "fieldguide", "fudd_small-clip"),
    ]
    assert set(rows.group_by("model", "split").len().select("split", "len").rows()) == {("test", 48), ("val", 24)}
    assert "coop_small-clip: fieldguide, 48 images, loss" in capsys.readouterr().out
    own = rows.filter(model="fieldguide")
    every = pl.concat([own.with_columns(model=pl.lit(name)) for name in ("base", "trained")] + [rows])
    scored = score(every)
    found = details(scored)
    assert json.dumps(found)
    assert set(names()) <= set(found["fieldguide"])
    assert set(names()) & set(found["clip_small-clip"]) == {"one_step", "oracle"}
    assert set(names()) & set(found["fudd_small-clip"]) == {"one_step", "two_step", "oracle"}
    assert "letter_choice" not in found["clip_small-clip"] and found["fudd_small-clip"]["letter_choice"]["n"] > 20
    assert set(found["clip_small-clip"]["confidence"]) == {"one_step"}
    classes = tables.read(tables.CLASSES, Path("data/classes.parquet"))
    files = report_tables(scored, classes, 5)
    pairs_of = set(files["differences"].select("first", "second").rows())
    assert ("clip_small-clip one_step", "trained two_step") in pairs_of
    assert ("fudd_small-clip two_step", "trained two_step") in pairs_of
    assert ("fieldguide vote", "trained vote") in pairs_of
    assert not any("coop_small-clip vote" in pair for pair in pairs_of)
    arms = files["accuracies"].filter(model="clip_small-clip")
    assert set(arms["metric"]) == {"one_step", "oracle"} and arms["accuracy"].null_count() == 0
    assert set(files["draws"].columns) >= {"pass_fieldguide_base"} and "pass_clip_small-clip_base" not in files["draws"]
    assert {"one_step_clip_small-clip", "two_step_fudd_small-clip"} <= set(files["classes"].columns)
    assert "vote_clip_small-clip" not in files["classes"].columns


def test_a_rival_at_an_endpoint_is_asked_there(project, monkeypatch):
    def says(handler, body):
        handler.send(200, answer(body, text=f"<answer>{SPECIES[0].name}</answer>"))

    with Fake(otherwise=says) as fake:
        project(f"org/some.model@{fake.url}")
        monkeypatch.setenv("DIVEK_API_KEY", "secret-of-the-test")
        settings = Path("params.yaml").read_text().replace("top_k: 50", "top_k: 0")
        Path("params.yaml").write_text(settings)
        baselines.main()
        assert {body["model"] for body in fake.bodies} == {"org/some.model"}
    rows = tables.read(tables.PREDICTIONS, Path("data/predictions/baselines.parquet"))
    assert set(rows["model"]) == {"some-model"} and rows["draws"].list.len().unique().to_list() == [3]
    named = rows.filter(subset="base")["one_step"]
    assert named.null_count() == 0 and named.n_unique() == 1
    assert pairs_to_compare([("base", "vote"), ("some-model", "vote")])
