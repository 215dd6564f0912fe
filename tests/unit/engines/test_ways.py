"""The three ways of drawing: the same draws by each, from the model's own distribution, and the right one is found."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from scipy.stats import chisquare
from support.engines import SAMPLER, engine_of, forward_calls, texts
from support.families import REQUESTS, tiny_family

from pipeline.core import timings
from pipeline.core.pictures import picture, size
from pipeline.engines.common.prompt_lengths import PromptLengths, process
from pipeline.engines.local import rows, shared_prefix, ways
from pipeline.engines.local.decoding import Draws
from pipeline.engines.local.ways import Way
from pipeline.method.chat import PLAIN

pytestmark = pytest.mark.slow

WAYS = ("shared", "repeated", "generate")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """By name: a small Qwen3-VL, whose draws can share a prompt, and a Qwen3.5, whose linear layers forbid it."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = tiny_family(tmp_path_factory.mktemp(name), name)
        return made[name]

    return make


@pytest.fixture
def engine(folder):
    """An engine that draws in a given way."""

    def make(name, way, **settings):
        engine = engine_of(folder(name), **settings)
        assert engine.reader, "the model is loaded and tried"
        engine.way = Way(way, "")
        return engine

    return make


def completions(engine, requests, sampler=SAMPLER):
    return {(one.image_id, one.draw): one for batch in engine.draw(requests, sampler) for one in batch}


@pytest.mark.parametrize(("name", "others"), [("qwen3_vl", WAYS[1:]), ("qwen3_5", WAYS[2:])])
def test_each_way_draws_the_same(engine, name, others):
    """Text, token for token, and where a stop text ends it."""
    sampler = replace(SAMPLER, stop=("bird", "wren"), repetition_penalty=1.2, penalize_prompt=True, top_p=0.95)
    expected = completions(engine(name, "shared" if name == "qwen3_vl" else "repeated"), REQUESTS, sampler)
    for way in others:
        assert completions(engine(name, way), REQUESTS, sampler) == expected
    assert len({one.text for one in expected.values()}) > 3, "or there is nothing to compare"


def test_each_way_has_the_same_logprobs_of_greedy_answers(engine):
    logprobs = []
    for way in WAYS:
        one = engine("qwen3_vl", way)
        new = partial(Draws, sampler=SAMPLER, never=one._placeholders, has_ended=one._endings(()))
        pictures = [picture(request.image) for request in REQUESTS]
        with torch.inference_mode():
            drawn = one.way.draw(one.reader, REQUESTS, pictures, new)
        logprobs.append(torch.cat([draws.logprobs for draws in drawn]))
    assert (logprobs[0] < 0).any()
    torch.testing.assert_close(logprobs[1], logprobs[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logprobs[2], logprobs[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "way"), [("qwen3_vl", "shared"), ("qwen3_5", "repeated"), ("qwen3_vl", "generate")])
def test_tokens_are_drawn_from_the_models_own_distribution(engine, name, way):
    engine, count = engine(name, way), 300
    short = replace(SAMPLER, max_new_tokens=1, temperature=1.5)
    drawn = [one.ids[0] for one in completions(engine, [replace(REQUESTS[0], draws=range(count))], short).values()]
    inputs = engine.reader.inputs(REQUESTS[:1], [picture(REQUESTS[0].image)])
    with torch.no_grad():
        logits = engine.model(**inputs).logits[0, -1]
    logits[engine._placeholders] = -torch.inf
    expected = (logits / 1.5).double().softmax(-1) * count
    common = (expected >= 5).nonzero()[:, 0].tolist()
    rest = count - expected[common].sum().item()
    observed = [drawn.count(token) for token in common]
    if rest >= 5:
        observed.append(count - sum(observed))
        frequencies = [*expected[common].tolist(), rest]
    else:
        frequencies = [value * sum(observed) / expected[common].sum().item() for value in expected[common].tolist()]
    assert len(frequencies) > 2, "several tokens compete"
    assert chisquare(observed, frequencies).pvalue > 0.001


def test_repeated_prompts_of_several_lengths_are_read_apart(engine, monkeypatch):
    """Padding would go through convolutions and recurrent states."""
    one = engine("qwen3_5", "repeated")
    long = [replace(r, image_id=f"{r.image_id} long", question=f"{r.question} a finch or a jay ?") for r in REQUESTS]
    together = texts(one, [*REQUESTS, *long])
    calls = forward_calls(one, monkeypatch)
    assert together == texts(engine("qwen3_5", "repeated", max_rows=1), [*REQUESTS, *long])
    texts(one, [*REQUESTS, *long])
    read = [images for (images, length), _ in calls if length > 1]
    assert sum(read) == len(REQUESTS) + len(long) > len(read), "equal ones are read together"


def test_a_way_that_does_not_hold_is_not_taken(folder, monkeypatch, capsys):
    """Found by a comparison with `generate`: here the faster ways are broken one after the other."""
    attention = shared_prefix.attention

    def flawed(*args, scaling, **more):
        return attention(*args, scaling=2 * scaling, **more)

    monkeypatch.setitem(shared_prefix.AttentionInterface._global_mapping, shared_prefix._NAME, flawed)
    engine = engine_of(folder("qwen3_vl"))
    assert engine.reader, "the model is loaded and tried"
    assert engine.way == Way("repeated", "the logits of `shared` are not those of `generate`")
    assert "qwen3_vl: draws with `repeated` (the logits of" in capsys.readouterr().err
    monkeypatch.setattr(rows.RepeatedRows, "forward", lambda self, tokens: None)
    assert engine_of(folder("qwen3_vl")).way == Way("generate", "the logits of `repeated` are not those of `generate`")


def test_the_way_is_said_once_and_recorded(folder, monkeypatch, capsys):
    monkeypatch.setattr(ways, "_announced", set())
    monkeypatch.setattr(timings, "_labels", {})
    for _ in range(2):
        assert engine_of(folder("qwen3_5")).reader
    line = "qwen3_5: draws with `repeated` (linear attention layers cannot share a prompt)"
    assert capsys.readouterr().err.count(line) == 1
    assert timings._labels == {"way": "repeated"}


@pytest.mark.parametrize("name", ["qwen3_vl", "smolvlm"])
def test_the_length_of_a_prompt_is_known_before_it_is_read(tmp_path, name):
    """SmolVLM's processor has no method that counts."""
    engine = engine_of(tiny_family(tmp_path / name, name))
    lengths = PromptLengths(engine.processor, PLAIN)
    for request in REQUESTS:
        prompt = engine.reader.prompt(request.question)
        ids = process(engine.processor, [prompt], [picture(request.image)])["input_ids"]
        assert abs(lengths(request.question, size(request.image)) - ids.shape[1]) <= 1
