"""The judge, over HTTP: it sees unmatched answers only, each once, and a failure is no verdict."""

import json
import re
from dataclasses import replace

import polars as pl
import pytest
from ruamel.yaml import YAML
from support.fake_server import Fake, answer, good, status
from support.project import ROOT
from support.scores import ROWS, frame

from pipeline.core import tables
from pipeline.core.params import UserError, load_params
from pipeline.evaluation import judge as judge_module
from pipeline.evaluation.judge import JudgeParams, judge_answers, judge_models
from pipeline.evaluation.scoring import score
from pipeline.stages.evaluate import main

pytestmark = pytest.mark.usefixtures("quick")

CLASSES = pl.DataFrame(
    [
        {"dataset": "x", "class_id": c, "name": n, "subset": "base", "aliases": [], "noun": "bird"}
        for c, n in enumerate(("red wren", "blue wren", "grey owl", "snow owl"))
    ],
    schema=tables.CLASSES.schema,
)


def row(image, truth, text, match=None):
    status = "off_list" if match is None else "ok"
    return ROWS[0] | {
        "image_id": image,
        "class_id": truth,
        "greedy_text": f"<answer>{text}</answer>",
        "greedy_status": status,
        "one_step": match,
    }


ANSWERS = frame(
    row("a", 0, "crimson wren"),
    row("b", 1, "some bird"),
    row("c", 0, "red wren", match=0),
    row("d", 2, "snow owl", match=3),
    row("e", 0, "crimson wren"),
)


def replies(handler, body):
    """Takes crimson for red, equal names for the same, and anything else for something else."""
    truth, label = (re.search(f"{what} is: (.*)", question(body))[1] for what in ("name", "given"))
    handler.send(200, answer(body, text="Yes." if label.replace("crimson", "red") == truth else "no"))


def question(body):
    parts = body["messages"][-1]["content"]
    assert [part["type"] for part in parts] == ["text"], "no picture"
    return parts[0]["text"]


@pytest.fixture
def judge(tmp_path, monkeypatch):
    """A judge at a server, with a draw cache of its own."""
    params = replace(load_params(JudgeParams, ROOT / "params.yaml"), model="m", key_variable="TEST_KEY", retries=0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return lambda fake: replace(params, endpoints=(fake.url,)).connect()


def test_only_unmatched_answers_are_judged_and_each_pair_once(judge):
    with Fake(otherwise=replies) as fake:
        same, about = judge_answers(ANSWERS, CLASSES, judge(fake), sample=0)
        assert same.to_list() == [True, False, False, False, True]
        assert len(fake.bodies) == 2, "two images have the same answer and truth"
    assert about["base"] == {
        "questions": 3,
        "same": 2,
        "failed": 0,
        "share": 0.6,
        "agreement": None,
        "sample": 0,
    }


def test_verdicts_are_cached(judge):
    with Fake(otherwise=replies) as fake:
        first = judge_answers(ANSWERS, CLASSES, judge(fake), sample=9)
        count = len(fake.bodies)
        assert judge_answers(ANSWERS, CLASSES, judge(fake), sample=9)[1] == first[1]
        assert len(fake.bodies) == count == 4


def test_the_sample_measures_how_often_judge_and_matcher_agree(judge):
    with Fake(otherwise=replies) as fake:
        _, about = judge_answers(ANSWERS, CLASSES, judge(fake), sample=9)
    assert (about["base"]["agreement"], about["base"]["sample"]) == (1.0, 2)
    with Fake(otherwise=good(text="yes")) as fake:
        contrary = frame(row("d", 2, "grey bird", match=3))
        _, about = judge_answers(contrary, CLASSES, judge(fake), sample=9)
    assert about["base"]["agreement"] == 0.0


def test_the_accuracy_counts_the_verdicts(judge):
    with Fake(otherwise=replies) as fake:
        summary = judge_models(score(ANSWERS), CLASSES, judge(fake), 0)["base"]
    assert summary["one_step"]["base"] == 0.6, "three of five"


@pytest.mark.slow
def test_the_stage_reports_the_verdicts(judge, tmp_path, capsys):
    settings = YAML().load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    image = {"dataset": "x", "split": "test", "status": "ok", "image": b"", "perceptual_hash": None}
    with Fake(otherwise=replies) as fake:
        settings["judge"] |= {"model": "m", "endpoints": [fake.url], "key_variable": "TEST_KEY"}
        with (tmp_path / "params.yaml").open("w") as file:
            YAML().dump(settings, file)
        both = [ANSWERS.with_columns(model=pl.lit(model)) for model in ("base", "trained")]
        images = [
            image | {"image_id": i, "class_id": c, "content": i} for i, c in ANSWERS["image_id", "class_id"].rows()
        ]
        tables.write(tables.IMAGES, pl.DataFrame(images, schema=tables.IMAGES.schema), tmp_path / "data/images.parquet")
        tables.write(tables.CLASSES, CLASSES, tmp_path / "data/classes.parquet")
        for empty in (tables.SAMPLES, tables.HARD):
            tables.write(empty, pl.DataFrame(schema=empty.schema), tmp_path / f"data/{empty.name}.parquet")
        for model, rows in zip(("base", "trained"), both, strict=True):
            tables.write(tables.PREDICTIONS, rows, tmp_path / f"data/predictions/{model}.parquet")
        for name in ("baselines", "base_union", "trained_union"):
            tables.write(tables.PREDICTIONS, both[0].clear(), tmp_path / f"data/predictions/{name}.parquet")
        main()
        count = len(fake.bodies)
        main()
        assert len(fake.bodies) == count == 4, "the second run sends no request"
    details = json.loads((tmp_path / "reports/details.json").read_text(encoding="utf-8"))["trained"]
    assert details["judge"]["one_step"]["base"] == 0.6 and details["one_step"]["base"] == 0.2
    assert details["judge"]["agreement"] == 1.0
    assert "10 predictions scored; training changes two-step by +0.0 points" in capsys.readouterr().out


def test_a_failure_is_an_error_and_the_other_verdicts_are_cached(judge):
    failure = pytest.raises(UserError, match=r"judge.model: 1 of 2 questions failed .*`dvc repro evaluate`")
    with Fake(replies, otherwise=status(500)) as fake, failure:
        judge_answers(ANSWERS, CLASSES, one_at_a_time(judge(fake)), sample=0)
    with Fake(otherwise=replies) as fake:
        judge_answers(ANSWERS, CLASSES, judge(fake), sample=0)
        assert len(fake.bodies) == 1, "only the one that failed"


def one_at_a_time(engine):
    """The engine with one request at a time, so that the first one gets the good reply."""
    inner = engine.engine.engine
    inner.server = replace(inner.server, concurrency=1)
    return engine


def test_a_reply_that_is_neither_yes_nor_no_is_a_failure_and_is_not_cached(judge):
    with Fake(otherwise=good(text="It depends.")) as fake, pytest.raises(UserError, match="neither yes nor no"):
        judge_answers(ANSWERS, CLASSES, judge(fake), sample=0)
    with Fake(otherwise=replies) as fake:
        judge_answers(ANSWERS, CLASSES, judge(fake), sample=0)
        assert len(fake.bodies) == 2, "both are judged again"


def test_some_failures_are_tolerated_and_reported(judge):
    """A pair that the judge always refuses, as a content filter does, must not keep the stage from ending."""
    with Fake(replies, otherwise=good(text="I cannot help with that.")) as fake:
        same, about = judge_answers(ANSWERS, CLASSES, one_at_a_time(judge(fake)), sample=9, limit=0.8)
    assert about["base"]["failed"] >= 1 and about["base"]["sample"] == 0 and about["base"]["agreement"] is None
    assert about["base"]["same"] == same.sum()


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("Answer: yes", True),
        ("The answer is no.", False),
        ("Yes (they are synonyms)", True),
        ('{"answer": "yes"}', True),
        ('```json\n{"verdict": "no"}\n```', False),
        ("Final answer: **No**", False),
        ("The answer is not clear", None),
        ("Answer: yes and no", None),
        ("yes", True),
        ("**No**", False),
        (" YES.", True),
        ("Yes, both are the same bird.", True),
        ("No - a broader kind.", False),
        ("<think>No wait, yes?</think>\nNo.", False),
        ("<think>yes, I think", None),
        ("maybe", None),
        ("Yesterday", None),
        ("No idea", None),
        ("", None),
    ],
)
def test_replies(reply, verdict):
    assert judge_module.verdict(reply) is verdict
