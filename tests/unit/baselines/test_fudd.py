"""FuDD: descriptions from a file or a language model choose among CLIP's most probable classes."""

import io
import re
from dataclasses import replace

import polars as pl
import pytest
import torch
from support.fake_server import Fake, status
from support.fake_server import answer as completion_body

from pipeline.baselines import fudd
from pipeline.baselines.clip import Clip
from pipeline.core.params import UserError
from pipeline.datasets.species import SPECIES
from pipeline.fieldguide.clip_model import descriptions

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("reply", "first", "second"),
    [
        ("1: a photo of a red bird\n2: a photo of a blue bird", ["a photo of a red bird"], ["a photo of a blue bird"]),
        ("Here you are:\n- 1. red\n- 2) blue\n", ["red"], ["blue"]),
        ("(1) red: very\n\n  2 : blue  \n1: crested", ["red: very", "crested"], ["blue"]),
        ("3: neither\n12: twelve\n1:\n", [], []),
        ("I cannot say.", [], []),
        ("<think>1: a red\n2: a blue</think>1: one\n2: another", ["one"], ["another"]),
    ],
)
def test_captions_are_read_line_by_line(reply, first, second):
    assert fudd.captions(reply) == (tuple(first), tuple(second))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "cannot be read"),
        (
            "d.csv",
            "name,description\na,b\n",
            "expected a CSV or Parquet file with the columns name, other, description",
        ),
        ("d.parquet", "no Parquet", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        fudd.from_file(tmp_path / name)


def test_a_class_is_the_mean_of_what_distinguishes_it_from_the_others(clip_folder):
    clip = Clip(str(clip_folder))
    a, b, c = (SPECIES[i].name for i in (0, 1, 7))
    texts = {(a, b): ("a photo of a finch.", "a photo of a jay."), (a, c): ("a photo of a bird.",), (b, a): ("bird",)}
    image = torch.nn.functional.normalize(torch.randn(128, generator=torch.Generator().manual_seed(0)), dim=-1)
    vectors = [
        clip.texts(["a photo of a finch.", "a photo of a jay.", "a photo of a bird."]).mean(0),
        clip.texts(["bird"])[0],
        clip.texts([f"name {c}"])[0],
    ]
    expected = torch.stack([clip.scale * image @ (vector / vector.norm()) for vector in vectors]).softmax(0)
    probabilities = fudd.follow_up(clip, image, [a, b, c], texts, lambda name: f"name {name}")
    assert torch.allclose(probabilities, expected, atol=1e-6)


def test_descriptions_choose_among_the_most_probable(fudd_predictions, clip_predictions, share):
    assert fudd_predictions["one_step"].equals(clip_predictions["one_step"]), "the initial prediction is the same"
    assert fudd_predictions["choice_text"].null_count() == 0
    assert (fudd_predictions["two_step"] != fudd_predictions["one_step"]).any()
    options = fudd_predictions["options"].list.eval(pl.element().struct.field("class_id"))
    assert all(choice in offered for choice, offered in zip(fudd_predictions["two_step"], options, strict=True))
    assert share(fudd_predictions, "two_step") > share(clip_predictions) - 0.05
    row = fudd_predictions.row(0, named=True)
    assert re.fullmatch(r"<think>(a photo of .*)</think><answer>[A-E]</answer>", row["choice_text"])


def test_names_in_the_file_are_read_by_the_matcher(answer, params, fudd_predictions, tmp_path):
    rows = pl.read_csv(io.StringIO(descriptions()))
    spelling = [
        pl.col(name).str.replace_all("hook-billed", "Hook Billed").str.replace_all("-", " ")
        for name in ("name", "other")
    ]
    rows.with_columns(column.str.replace("kingfisher", "Kingfishers") for column in spelling).write_csv(
        tmp_path / "d.csv"
    )
    table = answer("fudd", replace(params, descriptions=str(tmp_path / "d.csv")))
    assert table["two_step"].equals(fudd_predictions["two_step"])


def test_a_file_without_any_of_the_pairs_is_an_error(answer, params, tmp_path):
    (tmp_path / "d.csv").write_text("name,other,description\nrobin,wren,a red breast\n", encoding="utf-8")
    with pytest.raises(UserError, match="none of the"):
        answer("fudd", replace(params, descriptions=str(tmp_path / "d.csv")))


def test_without_any_descriptions_the_error_names_the_settings(answer, params):
    with pytest.raises(UserError, match=r"needs fudd.descriptions.*-S fudd.descriptions="):
        answer("fudd", replace(params, descriptions="", writer=""))


@pytest.fixture
def write_by(answer, params, tmp_path, monkeypatch):
    """The questions that a language model gets in two runs, and the predictions of both."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def write_by(reply):
        pairs = []

        def respond(handler, body):
            text = body["messages"][-1]["content"][0]["text"]
            pairs.append(re.findall(r"^[12]\. (.*)$", text, re.M))
            handler.send(200, completion_body(body, text=reply(*pairs[-1])))

        with Fake(otherwise=respond) as fake:
            own = replace(params, descriptions="", writer="m", writer_endpoints=(fake.url,), writer_key_variable="K")
            return pairs, [answer("fudd", own) for _ in range(2)]

    return write_by


def test_a_language_model_writes_about_each_pair_once(write_by, fudd_predictions):
    """It writes what the file says, and so the choices are the same; the second run sends no request."""
    rows = pl.read_csv(io.StringIO(descriptions()))
    texts = {(name, other): column for name, other, column in rows.group_by("name", "other").agg("description").rows()}

    def reply(first, second):
        return "\n".join([f"1: {t}" for t in texts[first, second]] + [f"2: {t}" for t in texts[second, first]])

    pairs, runs = write_by(reply)
    assert len({tuple(pair) for pair in pairs}) == len(pairs) and all(pair == sorted(pair) for pair in pairs)
    assert all(table["two_step"].equals(fudd_predictions["two_step"]) for table in runs)


def test_replies_without_captions_are_an_error(write_by):
    with pytest.raises(UserError, match=r"fudd: none of the [\d,]+ pairs of options has a description"):
        write_by(lambda *_: "I cannot say.")


def test_a_failed_request_is_an_error(answer, params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Fake(otherwise=status(500)) as fake, pytest.raises(UserError, match=r"fudd.model: .* `dvc repro baselines`"):
        own = replace(params, descriptions="", writer="m", writer_endpoints=(fake.url,), writer_key_variable="K")
        answer("fudd", replace(own, retries=0))
