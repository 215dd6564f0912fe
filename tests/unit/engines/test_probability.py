"""Probability of answers: by hand, against the plain forward pass of a model, and as servers report it."""

import math

import pytest
import torch
from support.engines import SAMPLER, engine_of
from support.fake_server import Fake, answer, draw_all, image_requests, server

from pipeline.core.engine import GREEDY, Request
from pipeline.core.pictures import picture
from pipeline.engines.common.probability import answer_probability
from pipeline.engines.servers.openai import OpenAIEngine
from pipeline.engines.servers.wire import probability
from pipeline.method.prompts import choice_question

pytestmark = pytest.mark.slow

pytestmark = pytest.mark.usefixtures("quick")

HALF = math.log(0.5)


@pytest.mark.parametrize(
    ("pieces", "logprobs", "expected"),
    [
        (["<think>", "x", "</think>", "<answer>", "A", "</answer>"], [-9, -9, -9, -9, HALF, -9], 0.5),
        (["<answer>", " red", " wren", " </answer>"], [-9, HALF, HALF, HALF], 0.125),
        (["<ans", "wer>A</answer>"], [-9, HALF], 0.5),
        (["<answer>", "A"], [0, 0], None),
        (["no answer"], [0], None),
        ([], [], None),
        (["<answer>", "A", "</answer>"], [0, 1e-7, 0], 1.0),
    ],
)
def test_the_answer_counts_and_nothing_around_it(pieces, logprobs, expected):
    assert answer_probability(pieces, logprobs) == (expected if expected is None else pytest.approx(expected))


def test_it_is_the_probability_that_the_model_gives_the_letter(base_model, birds):
    engine = engine_of(base_model)
    _, images = birds
    question = choice_question(
        "brief", "bird", ["hook-billed spot-breasted tanager", "thin-billed clear-breasted tanager"]
    )
    rows = images.filter(split="test")["image_id", "image"].rows()[:6]
    requests = [Request(image_id, image, question, [GREEDY, 0]) for image_id, image in rows]
    sampler = SAMPLER.__class__(**{**SAMPLER.__dict__, "max_new_tokens": 56})
    completions = {(one.image_id, one.draw): one for batch in engine.draw(requests, sampler) for one in batch}
    count = 0
    for request in requests:
        greedy = completions[request.image_id, GREEDY]
        assert completions[request.image_id, 0].probability is None, "only greedy answers have one"
        if greedy.probability is None:
            continue
        inputs = engine.reader.inputs([request], [picture(request.image)])
        length = inputs["input_ids"].shape[1]
        ids = torch.tensor([greedy.ids])
        inputs["input_ids"] = torch.cat([inputs["input_ids"], ids], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if "mm_token_type_ids" in inputs:
            inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(ids)], dim=1)
        with torch.inference_mode():
            logprobs = engine.model(**inputs).logits[0, length - 1 : -1].log_softmax(-1)
        each = logprobs.gather(1, ids[0][:, None])[:, 0].tolist()
        pieces = [engine.processor.tokenizer.decode([token]) for token in greedy.ids]
        assert greedy.probability == pytest.approx(answer_probability(pieces, each), rel=1e-3)
        assert 0 < greedy.probability <= 1
        count += 1
    assert count >= 3


def test_a_server_that_reports_probabilities():
    pieces = [("<answer>", 0.0), ("B", HALF), ("</answer>", 0.0)]

    def reports(handler, body):
        tokens = [{"token": piece, "logprob": sure, "bytes": None, "top_logprobs": []} for piece, sure in pieces]
        further = {"logprobs": {"content": tokens}} if body.get("logprobs") else {}
        handler.send(200, answer(body, text="<answer>B</answer>", **further))

    with Fake(otherwise=reports) as fake:
        completions = draw_all(OpenAIEngine("m", server(fake)), image_requests(draws=[GREEDY, 0]))
    sure = {draw: one.probability for (_, draw), one in completions.items()}
    assert sure[GREEDY] == pytest.approx(0.5) and sure[0] is None


def test_a_server_that_rejects_logprobs_gets_requests_without_them(capsys):
    def rejects(handler, body):
        content = {"error": {"message": "logprobs is not supported by this model"}}
        handler.send(400, content) if "logprobs" in body else handler.send(200, answer(body))

    with Fake(otherwise=rejects) as fake:
        completions = draw_all(OpenAIEngine("m", server(fake, concurrency=1)), image_requests(draws=[GREEDY]))
    assert all(one.error is None and one.probability is None for one in completions.values())
    assert "continuing without token probabilities" in capsys.readouterr().err


@pytest.mark.parametrize(
    "logprobs", [None, {}, [1, 2], {"content": None}, {"content": [{"token": "A"}]}, {"content": [None]}]
)
def test_malformed_logprobs_give_no_probability(logprobs):
    assert probability({"logprobs": logprobs}) is None
    assert probability({}) is None
