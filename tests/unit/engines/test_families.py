"""The transformers engine on other families: what holds for Qwen2.5-VL holds for Gemma 3, Idefics3 and LLaVA."""

from dataclasses import replace

import pytest
from support.engines import agreement, decode, engine_of, forward_calls, generate, texts
from support.tiny_models import tiny_model

from pipeline.core.engine import GREEDY, Request

pytestmark = pytest.mark.slow

QUESTION = "Which bird is this ?"


@pytest.fixture(scope="module", params=["gemma3", "idefics3", "llava"])
def folder(request, tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def requests(birds):
    """Six pictures with prompts of three lengths."""
    _, images = birds
    rows = images.filter(split="test")["image_id", "image"].rows()[::2]
    return [Request(i, image, QUESTION + " bird" * (n % 3), [GREEDY, 0, 1]) for n, (i, image) in enumerate(rows)]


def test_greedy_is_generates_token_for_token(folder, requests):
    engine = engine_of(folder)
    draws = texts(engine, requests)
    greedy = [draws[request.image_id, GREEDY] for request in requests]
    for request, text in zip(requests, greedy, strict=True):
        # A model of random weights would sample picture tokens, which the engine never samples.
        expected = generate(engine, request, do_sample=False, top_k=50, suppress_tokens=engine._placeholders)
        assert decode(engine, expected) == text
    assert len(set(greedy)) >= 4, "the answer depends on the picture"


def test_draws_do_not_depend_on_batch_or_order(folder, requests):
    together = texts(engine_of(folder), requests)
    alone = texts(engine_of(folder, max_rows=2), requests[::-1])
    assert agreement(together, alone) >= 17 / 18, "of 18, rounding aside"


def test_a_second_question_is_answered_as_if_it_were_the_first(folder, requests, monkeypatch):
    """The prefill of the picture is reused, except where layers have a window: Gemma 3."""
    second = [replace(request, question="this bird is a finch ? " + request.question) for request in requests]
    expected = texts(engine_of(folder), second)
    engine = engine_of(folder)
    texts(engine, [replace(request, keep_prefill=True) for request in requests])
    calls = forward_calls(engine, monkeypatch)
    assert agreement(texts(engine, second), expected) >= 17 / 18
    assert any(pixels for _, pixels in calls) == ("gemma3" in folder.name)
