"""The engine for OpenAI-compatible servers, against a real HTTP server on this machine with scripted failures."""

import asyncio
import base64
import json
import re
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from email.utils import formatdate

import polars as pl
import pytest
from support.fake_server import JPEG, KEY, PNG, SAMPLER, Fake, answer, draw_all, good, image_requests, server, status
from support.project import ROOT

from pipeline.core import tables
from pipeline.core.engine import GREEDY, Completion, Request
from pipeline.core.params import UserError, load_params
from pipeline.engines.params import EngineParams
from pipeline.engines.servers import endpoint, endpoints, failures, wire
from pipeline.engines.servers import openai as engine_module
from pipeline.engines.servers.openai import OpenAIEngine
from pipeline.method.chat import Chat
from pipeline.method.class_lists import ClassLists, ParsedAnswer
from pipeline.method.failures import FailureLimit
from pipeline.method.progress import draws_bar
from pipeline.stages.predict import PredictParams

pytestmark = pytest.mark.usefixtures("quick")

CLASS = {"dataset": "birds", "class_id": 0, "name": "wren", "subset": "base", "aliases": [], "noun": "bird"}
CLASSES = pl.DataFrame([CLASS | {"group": None}], schema=tables.CLASSES.schema)


def raw(content):
    return lambda handler, body: handler.send(200, content)


def echo(code):
    """Returns the Authorization header in the error message."""

    def reply(handler, body):
        handler.send(code, {"error": {"message": f"no good: {handler.headers['Authorization']}"}})

    return reply


def hang(handler, body):
    handler.server.fake.over.wait(20)
    handler.close_connection = True


def cut(handler, body):
    handler.send(200, answer(body), length=10_000)
    handler.close_connection = True


def slow(seconds):
    def reply(handler, body):
        time.sleep(seconds)
        handler.send(200, answer(body))

    return reply


def completions_and_error(engine, requests):
    """The completions before the UserError, and its message."""
    completions: list[Completion] = []
    with pytest.raises(UserError) as caught:
        for batch in engine.draw(requests, SAMPLER):
            completions += batch
    return completions, str(caught.value)


def closed_port():
    """The URL of a port without a server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


def threads():
    return [t.name for t in threading.enumerate() if t.name.startswith(("openai-engine", "asyncio", "Any"))]


# Requests.


@pytest.mark.slow
def test_the_openai_dialect_sends_every_setting_of_the_sampler_and_nothing_else():
    with Fake() as fake:
        draw_all(OpenAIEngine("m", server(fake)), image_requests(draws=[GREEDY, 0, 1]))
    greedy, first, second = sorted(fake.bodies, key=lambda body: (body["temperature"], body.get("seed", 0)))
    assert greedy.keys() == {"model", "messages", "temperature", "top_p", "max_tokens", "logprobs"}
    assert (greedy["temperature"], greedy["top_p"], greedy["max_tokens"]) == (0, 1, 12)
    assert first.keys() == (greedy.keys() - {"logprobs"}) | {"seed"}
    assert (first["temperature"], first["top_p"], first["max_tokens"], first["model"]) == (0.7, 0.9, 12, "m")
    assert first["seed"] != second["seed"]


@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
def test_the_extra_settings_are_sent_even_where_they_are_off(dialect):
    sampler = replace(SAMPLER, top_k=50, repetition_penalty=1.1, stop=("</answer>", "END"))
    sampler = replace(sampler, penalize_prompt=dialect == "vllm")
    with Fake() as fake:
        draw_all(OpenAIEngine("m", server(fake, dialect=dialect)), image_requests(draws=[GREEDY, 0]), sampler)
        draw_all(OpenAIEngine("m", server(fake, dialect=dialect)), image_requests())
    greedy, draw = sorted(fake.bodies[:2], key=lambda body: body["temperature"])
    for body in (greedy, draw):
        assert body["repetition_penalty"] == 1.1
        assert body["stop"] == ["</answer>", "END"]
        assert body.get("include_stop_str_in_output", False) == (dialect == "vllm")
    assert (greedy["top_k"], draw["top_k"]) == (-1, 50)
    assert (fake.bodies[2]["top_k"], fake.bodies[2]["repetition_penalty"]) == (-1, 1)
    assert "stop" not in fake.bodies[2]


CHAT = Chat("You know birds.", {"enable_thinking": False, "budget": 512})


@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
def test_the_settings_of_chats_are_sent_with_every_request(dialect):
    with Fake() as fake:
        draw_all(OpenAIEngine("m", server(fake, dialect=dialect), chat=CHAT), image_requests(draws=[GREEDY, 0]))
        draw_all(OpenAIEngine("m", server(fake, dialect=dialect)), image_requests())
    *with_chat, without = fake.bodies
    for body in with_chat:
        assert body["chat_template_kwargs"] == {"enable_thinking": False, "budget": 512}
        system, user = body["messages"]
        assert system == {"role": "system", "content": [{"type": "text", "text": "You know birds."}]}
        assert [part["type"] for part in user["content"]] == ["image_url", "text"]
    assert "chat_template_kwargs" not in without and [one["role"] for one in without["messages"]] == ["user"]


def test_the_openai_dialect_takes_a_system_message_and_no_settings_of_chat_templates():
    with Fake() as fake:
        draw_all(OpenAIEngine("m", server(fake), chat=replace(CHAT, template_kwargs={})), image_requests())
        with pytest.raises(UserError, match=r"chat\.template_kwargs is .* which OpenAI's API cannot express"):
            draw_all(OpenAIEngine("m", server(fake), chat=CHAT), image_requests())
    (body,) = fake.bodies
    assert body["messages"][0]["role"] == "system" and "chat_template_kwargs" not in body


def test_the_picture_comes_first_and_arrives_byte_for_byte():
    requests = [Request("p", PNG, "A png?", [0]), Request("j", JPEG, "A jpeg?", [0])]
    with Fake() as fake:
        draw_all(OpenAIEngine("m", server(fake)), requests)
    sent = {}
    for body in fake.bodies:
        (message,) = body["messages"]
        picture, question = message["content"]
        assert (message["role"], picture["type"], question["type"]) == ("user", "image_url", "text")
        sent[question["text"]] = picture["image_url"]["url"].split(";base64,")
    assert (sent["A png?"][0], sent["A jpeg?"][0]) == ("data:image/png", "data:image/jpeg")
    assert (base64.b64decode(sent["A png?"][1]), base64.b64decode(sent["A jpeg?"][1])) == (PNG, JPEG)


def test_a_picture_of_another_kind_is_an_error_and_is_not_sent():
    with Fake() as fake:
        completions = draw_all(OpenAIEngine("m", server(fake)), [Request("g", b"GIF89a", "?", [0, 1])])
    assert not fake.bodies and all("neither JPEG nor PNG" in one.error for one in completions.values())


def test_the_seed_of_a_draw_does_not_depend_on_the_other_draws():
    with Fake() as fake:
        alone = draw_all(OpenAIEngine("m", server(fake)), image_requests(draws=[5]))
        among = draw_all(OpenAIEngine("m", server(fake)), image_requests(draws=range(8)))
        other = draw_all(OpenAIEngine("m", server(fake)), image_requests(draws=[5]), replace(SAMPLER, seed=4))
    seeds = [body["seed"] for body in fake.bodies]
    assert 2**28 < max(seeds) < 2**31 and min(seeds) >= 0
    assert alone["image 0", 5] == among["image 0", 5] != other["image 0", 5]
    assert len({one.text for one in among.values()}) == 8


@pytest.mark.parametrize(
    ("dialect", "settings", "words"),
    [
        ("openai", {"top_k": 50}, "top_k is 50"),
        ("openai", {"repetition_penalty": 1.1}, "repetition_penalty is 1.1"),
        ("vllm", {"repetition_penalty": 1.1, "penalize_prompt": False}, "completion alone"),
        ("sglang", {"repetition_penalty": 1.1}, "penalize_prompt=false"),
        ("gemini", {}, "expected one of openai, vllm, sglang"),
    ],
)
def test_inexpressible_settings_are_an_error_before_any_request(dialect, settings, words):
    with Fake() as fake, pytest.raises(UserError, match=words):
        list(OpenAIEngine("m", server(fake, dialect=dialect)).draw(image_requests(), replace(SAMPLER, **settings)))
    assert not fake.bodies


def test_no_draws_make_no_request():
    assert list(OpenAIEngine("m", server(closed_port())).draw(image_requests(draws=[]), SAMPLER)) == []


def test_the_fingerprint_has_what_draws_depend_on_and_neither_url_nor_key():
    one = OpenAIEngine("m", server("http://a/v1", draws_per_request=4)).fingerprint()
    assert one == OpenAIEngine("m", server("http://b/v1", draws_per_request=4, timeout=9)).fingerprint()
    assert one == {"engine": "openai/2", "model": "m", "dialect": "openai", "draws_per_request": "4"}
    assert OpenAIEngine("m", server("http://a/v1", draws_per_request=4), chat=CHAT).fingerprint() == {
        **one,
        "chat": '{"system": "You know birds.", "template_kwargs": {"budget": 512, "enable_thinking": false}}',
    }


def test_sglang_gets_one_request_for_each_draw(monkeypatch):
    monkeypatch.chdir(ROOT)
    params = replace(load_params(EngineParams), engine="openai", dialect="sglang", endpoints=("http://a/v1",))
    assert params.draws_per_request == 20 and params.connect("m", []).engine.server.draws_per_request == 1


def test_a_setting_of_step_two_is_refused_before_step_one(monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = {"engine": "openai", "dialect": "openai", "top_k": 0, "repetition_penalty": 1.0}
    settings |= {"greedy_repetition_penalty": 1.0, "choice_repetition_penalty": 1.1}
    params = replace(load_params(PredictParams), **settings)
    with pytest.raises(UserError, match=r"repetition_penalty is 1\.1, which OpenAI's API cannot express"):
        params.connect("m", params.samplers())


def test_a_beginning_of_the_choice_is_refused_before_step_one(monkeypatch):
    monkeypatch.chdir(ROOT)
    params = replace(load_params(PredictParams), engine="openai", choice_prefix="<think> A")
    with pytest.raises(UserError, match=r"predict\.choice_prefix is '<think> A'.*-S predict\.choice_prefix="):
        params.connect("m", params.samplers(), params.choice_prefix)


def test_the_fingerprint_of_a_folder_changes_with_its_content(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    engine = OpenAIEngine(str(tmp_path), server("http://a/v1"))
    before = engine.fingerprint()
    assert engine.fingerprint() == before
    (tmp_path / "model.safetensors").write_bytes(b"new")
    assert engine.fingerprint() != before


# Responses.


def test_completions_are_verbatim_with_tokens_and_finish_reason():
    with Fake(good(text=" a\nb "), good(text="cut", reason="length"), good(text="")) as fake:
        completions = draw_all(OpenAIEngine("m", server(fake, concurrency=1)), image_requests(draws=[0, 1, 2]))
    assert [completions["image 0", draw].text for draw in range(3)] == [" a\nb ", "cut", ""]
    assert [completions["image 0", draw].finished for draw in range(3)] == [True, False, True]
    assert all((one.tokens, one.error) == (5, None) for one in completions.values())


@pytest.mark.parametrize("how", [{"reason": "content_filter"}, {"text": ["a list"]}, {"text": 7}])
def test_no_text_is_an_error(how):
    with Fake(good(**how)) as fake:
        (one,) = draw_all(OpenAIEngine("m", server(fake)), image_requests()).values()
    assert (one.text, one.finished) == ("", False) and "no text" in one.error


def test_null_content_is_an_error():
    null = {"choices": [{"index": 0, "message": {"content": None}, "finish_reason": "length"}]}
    with Fake(raw(json.dumps(null).encode())) as fake:
        (one,) = draw_all(OpenAIEngine("m", server(fake)), image_requests()).values()
    assert one.error == "no text, finish_reason 'length'"


@pytest.mark.parametrize("dialect", ["openai", "vllm", "sglang"])
def test_text_ends_with_the_first_stop_text_it_contains(dialect):
    sampler = replace(SAMPLER, stop=("</answer>", "END"))
    replies = [good(text="a END b </answer> c", reason="length"), good(text="a</answer>"), good(text="none of it")]
    with Fake(*replies) as fake:
        engine = OpenAIEngine("m", server(fake, dialect=dialect, concurrency=1))
        completions = draw_all(engine, image_requests(draws=[0, 1, 2]), sampler)
    assert [completions["image 0", draw].text for draw in range(3)] == ["a END", "a</answer>", "none of it"]
    assert all(one.finished for one in completions.values())
    assert all(("stop" in body) == (dialect != "openai") for body in fake.bodies)
    assert all(("include_stop_str_in_output" in body) == (dialect == "vllm") for body in fake.bodies)


@pytest.mark.parametrize("name", ["stop_reason", "matched_stop"])
def test_a_stop_text_that_the_server_removes_is_appended(name):
    sampler = replace(SAMPLER, stop=("</answer>",))
    with Fake(good(text="a", **{name: "</answer>"}), good(text="a", **{name: 151645})) as fake:
        engine = OpenAIEngine("m", server(fake, dialect="vllm", concurrency=1))
        completions = draw_all(engine, image_requests(draws=[0, 1]), sampler)
    assert [completions["image 0", draw].text for draw in range(2)] == ["a</answer>", "a"]


# Several draws per request.


def test_draws_share_requests_and_greedy_has_its_own():
    with Fake() as fake:
        engine = OpenAIEngine("m", server(fake, draws_per_request=4, concurrency=1))
        completions = draw_all(engine, image_requests(draws=[GREEDY, *range(10)]))
    assert [body.get("n", 1) for body in fake.bodies] == [1, 4, 4, 2]
    assert len({one.text for one in completions.values()}) == 11
    assert sum(one.tokens for one in completions.values()) == 11 * 5


def test_missing_choices_are_requested_again():
    with Fake(good(count=3)) as fake:
        draw_all(OpenAIEngine("m", server(fake, draws_per_request=5, concurrency=1)), image_requests(draws=range(5)))
    assert [body["n"] for body in fake.bodies] == [5, 2]


def test_surplus_choices_are_ignored():
    with Fake(good(count=7)) as fake:
        draw_all(OpenAIEngine("m", server(fake, draws_per_request=2, concurrency=1)), image_requests(draws=[0, 1]))
    assert len(fake.bodies) == 1


def test_a_server_that_ignores_n_gets_one_request_per_draw_and_a_single_notice(capsys):
    with Fake(otherwise=good(count=1)) as fake:
        engine = OpenAIEngine("m", server(fake, draws_per_request=4, concurrency=1))
        completions = draw_all(engine, image_requests(images=2, draws=range(4)))
    assert [body.get("n", 1) for body in fake.bodies] == [4] + 7 * [1]
    assert len({one.text for one in completions.values()}) == 8
    assert capsys.readouterr().err.count("ignores n") == 1


def test_a_field_that_the_server_rejects_is_omitted_with_a_single_notice(capsys):
    def gemini(handler, body):
        content = [{"error": {"message": 'Invalid JSON payload. Unknown name "seed": Cannot find field.'}}]
        handler.send(400, content) if "seed" in body else handler.send(200, answer(body))

    with Fake(otherwise=gemini) as fake:
        completions = draw_all(OpenAIEngine("m", server(fake, concurrency=1)), image_requests(draws=range(3)))
    assert len(fake.bodies) == 4 and all(one.error is None for one in completions.values())
    assert capsys.readouterr().err.count("rejects seed") == 1


@pytest.mark.parametrize(
    ("code", "message", "field"),
    [
        (400, "Logprobs is not enabled", "logprobs"),
        (400, "This model does not support LOGPROBS.", "logprobs"),
        (403, "You are not allowed to request logprobs from this model", "logprobs"),
        (400, "'Seed' is not supported", "seed"),
        (422, "n must be 1", "n"),
        (400, "n > 1 is not supported with this model", "n"),
        (400, "Invalid value: only N=1 is allowed", "n"),
        (501, "x", None),
    ],
)
def test_a_field_is_omitted_however_the_refusal_is_worded(code, message, field):
    def refuse(handler, body):
        if field is None or field in body:
            handler.send(code, {"error": {"message": message}})
        else:
            handler.send(200, answer(body))

    with Fake(otherwise=refuse) as fake:
        engine = OpenAIEngine("m", server(fake, concurrency=1, draws_per_request=2, retries=0))
        drawn = draw_all(engine, image_requests(draws=[GREEDY, 0, 1]))
    assert all((one.error is None) == (field is not None) for one in drawn.values())
    assert engine.unsupported == ({field} if field else set())


@pytest.mark.parametrize(
    "message", ["the end of the input is near", "image is not an n-gram", "error in line 1\\n is unexpected", "Nothing"]
)
def test_a_rejection_about_something_else_omits_nothing(message):
    assert wire.rejected_fields(message, {"n", "seed", "logprobs"}) == []


def test_a_403_about_the_model_is_no_refusal_of_a_field():
    with Fake(status(403, {"error": {"message": "no access to model m"}})) as fake:
        _, error = completions_and_error(OpenAIEngine("m", server(fake)), image_requests(draws=[GREEDY]))
    assert "no access to model m" in error and "check what the key in TEST_KEY may use" in error


def test_nothing_is_requested_that_is_not_used():
    with Fake() as fake:
        draw_all(OpenAIEngine("m", server(fake), probabilities=False), image_requests(draws=[GREEDY]))
    assert "logprobs" not in fake.bodies[0]


@pytest.mark.parametrize(
    ("message", "reason", "text", "finished"),
    [
        ({"content": None, "reasoning_content": "long"}, "length", "<think>long", False),
        ({"content": None, "reasoning": "long"}, "length", "<think>long", False),
        ({"content": None, "reasoning_content": "done"}, "stop", "<think>done", True),
        ({"content": "", "reasoning": "long"}, "length", "<think>long", False),
        ({"content": "B", "reasoning_content": "long"}, "stop", "<think>long</think>B", True),
        ({"content": [{"type": "text", "text": "B"}], "reasoning": "long"}, "stop", "<think>long</think>B", True),
        ({"content": "B", "reasoning_content": None, "reasoning": ""}, "stop", "B", True),
        ({"content": "long</think>B"}, "stop", "<think>long</think>B", True),
        ({"content": "<think>long</think>B"}, "stop", "<think>long</think>B", True),
        ({"content": [{"type": "text", "text": "a "}, {"type": "text", "text": "wren"}]}, "stop", "a wren", True),
        ({"content": [{"type": "image_url"}, {"type": "output_text", "text": "wren"}]}, "stop", "wren", True),
    ],
)
def test_a_text_is_found_wherever_the_server_puts_it(message, reason, text, finished):
    def reply(handler, body):
        content = answer(body, reason=reason)
        content["choices"][0]["message"] = message
        handler.send(200, content)

    with Fake(reply) as fake:
        (one,) = draw_all(OpenAIEngine("m", server(fake)), image_requests()).values()
    assert (one.text, one.finished, one.error) == (text, finished, None)
    status = ClassLists(CLASSES).parse(one, "birds", "base").status
    assert status == {"length": "truncated"}.get(reason, "no_answer" if "<think>" in text else status)


# Failures and retries.


@pytest.mark.parametrize("code", [500, 502, 503])
def test_a_run_that_cannot_end_well_ends_early(code):
    """At one per cent of 4,000 draws 41 failures are too many: not all 4,000 are waited for."""
    with Fake(otherwise=status(code)) as fake:
        engine = OpenAIEngine("m", server(fake, retries=0, draws_per_request=1))
        limit = FailureLimit("sample", 0.01, 4000)
        with pytest.raises(UserError) as caught, draws_bar("draws", 4000, limit) as advance:
            for batch in engine.draw(image_requests(images=200, draws=range(20)), SAMPLER):
                advance(ParsedAnswer(one.error or "", None, None, "error", 0) for one in batch)
    assert re.search(r"sample: \d+ of 4000 completions failed \(limit 1 %\), the first with", str(caught.value))
    assert f"scripted error {code}" in str(caught.value) and 41 <= len(fake.bodies) < 2000


def test_a_list_of_models_that_fails_is_an_obstacle_where_the_model_does_not_answer(capsys):
    with Fake(models=502, otherwise=status(502)) as broken, Fake() as fake:
        draw_all(OpenAIEngine("m", server(broken, fake)), image_requests(images=4))
        assert len(broken.bodies) == 1 and f"{broken.url}: HTTP 502" in capsys.readouterr().err
        _, error = completions_and_error(OpenAIEngine("m", server(broken)), image_requests())
    assert "HTTP 502" in error and "start a server" in error


@pytest.mark.parametrize(
    "trouble",
    [
        status(500),
        status(503, b"<html>busy</html>"),
        status(408),
        status(429),
        cut,
        raw(b"{not json"),
        raw(b"[]"),
        raw(b'{"error": "with status 200"}'),
        raw(b'{"choices": []}'),
        raw(b'{"choices": [{"text": "not a chat"}]}'),
    ],
)
def test_a_temporary_failure_is_retried(trouble):
    with Fake(trouble, trouble) as fake:
        (one,) = draw_all(OpenAIEngine("m", server(fake)), image_requests()).values()
    assert one.error is None and len(fake.bodies) == 3


def test_a_request_that_hangs_is_retried():
    with Fake(hang) as fake:
        (one,) = draw_all(OpenAIEngine("m", server(fake, timeout=0.2)), image_requests()).values()
    assert one.error is None and len(fake.bodies) >= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "words"),
    [(status(500), "scripted error 500"), (cut, "complete message"), (raw(b"{}"), "no choices"), (hang, "0.3 s")],
)
def test_after_the_last_retry_every_draw_of_the_request_is_an_error(trouble, words):
    with Fake(trouble, trouble) as fake:
        engine = OpenAIEngine("m", server(fake, retries=1, draws_per_request=2, concurrency=1, timeout=0.3))
        completions = draw_all(engine, image_requests(draws=range(4)))
    errors = [completions["image 0", draw].error for draw in range(4)]
    assert words in errors[0] and errors[0] == errors[1] and errors[2:] == [None, None]


def test_a_rejected_picture_is_an_error_and_is_not_retried():
    with Fake(status(400), status(422)) as fake:
        completions = draw_all(OpenAIEngine("m", server(fake, concurrency=1)), image_requests(draws=range(3)))
    errors = [completions["image 0", draw].error for draw in range(3)]
    assert "scripted error 400" in errors[0] and "scripted error 422" in errors[1] and errors[2] is None
    assert len(fake.bodies) == 3


def test_an_error_in_another_form_than_the_apis_is_quoted_verbatim():
    with Fake(status(422, {"detail": "Unexpected fields"}), status(400, b"plain")) as fake:
        completions = draw_all(OpenAIEngine("m", server(fake, concurrency=1)), image_requests(draws=[0, 1]))
    assert completions["image 0", 0].error == f'{fake.url}: HTTP 422: {{"detail": "Unexpected fields"}}'
    assert completions["image 0", 1].error == f"{fake.url}: HTTP 400: plain"


def test_a_long_error_is_shortened():
    with Fake(status(400, {"error": {"message": "long " * 1000}})) as fake:
        (one,) = draw_all(OpenAIEngine("m", server(fake)), image_requests()).values()
    assert len(one.error) == endpoint.LONGEST_REASON


NOW = 1_800_000_000


def test_retry_after_is_waited_for(monkeypatch):
    waits, sleep = [], asyncio.sleep

    async def record(seconds, *args):
        waits.append(seconds)
        await sleep(0, *args)

    monkeypatch.setattr(endpoints.asyncio, "sleep", record)
    with Fake(status(429, headers={"Retry-After": "7"})) as fake:
        draw_all(OpenAIEngine("m", server(fake)), image_requests())
    assert len([wait for wait in waits if 7 <= wait < 8]) == 1


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        (None, 0, 0),
        ("7", 7, 7),
        ("100000", 60, 60),
        ("-3", 0, 0),
        ("nan", 0, 0),
        ("soon", 0, 0),
        (formatdate(NOW + 30, usegmt=True), 30, 30),
        (formatdate(NOW - 30, usegmt=True), 0, 0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_has_a_limit(monkeypatch, header, low, high):
    monkeypatch.setattr(failures.time, "time", lambda: NOW)
    assert low <= failures.retry_after(header) <= high


@pytest.mark.parametrize(
    ("code", "words"), [(401, "TEST_KEY is set"), (403, "what the key in TEST_KEY may use"), (404, "model's name")]
)
def test_an_error_that_no_retry_can_fix_ends_the_run_at_once(code, words):
    with Fake(status(code)) as fake:
        completions, error = completions_and_error(
            OpenAIEngine("m", server(fake, concurrency=1)), image_requests(images=9)
        )
    assert words in error and f"scripted error {code}" in error and fake.url in error
    assert not completions and len(fake.bodies) == 1


def test_a_spent_account_ends_the_run_at_once():
    with Fake(status(429, {"error": {"message": "pay", "code": "insufficient_quota"}})) as fake:
        _, error = completions_and_error(OpenAIEngine("m", server(fake)), image_requests())
    assert "pay" in error and len(fake.bodies) == 1


# The key.


@pytest.mark.parametrize("code", [200, 400, 500])
def test_a_key_that_the_server_returns_is_in_no_error(code):
    with Fake(otherwise=echo(code)) as fake:
        (one,) = draw_all(OpenAIEngine("m", server(fake, retries=1)), image_requests()).values()
    assert "[key]" in one.error and "secret" not in one.error


@pytest.mark.parametrize(("chat", "models"), [(echo(401), ("m",)), (echo(401), 401), (echo(404), ("m",))])
def test_a_key_that_the_server_returns_is_in_no_message(chat, models, capsys):
    with Fake(otherwise=chat, models=models) as fake:
        _, error = completions_and_error(OpenAIEngine("m", server(fake)), image_requests())
    assert "[key]" in error and "secret" not in error + capsys.readouterr().err


def test_a_key_is_in_no_text_and_no_notice(capsys):
    def parrot(handler, body):
        handler.send(200, answer(body, text=handler.headers["Authorization"]))

    with Fake(otherwise=parrot, models=[KEY, "m"]) as fake, Fake(models=[KEY], otherwise=echo(404)) as other:
        (one,) = draw_all(OpenAIEngine("m", server(fake, other)), image_requests()).values()
    printed = capsys.readouterr().err
    assert one.text == "Bearer [key]" and "[key]" in printed and "secret" not in printed


def test_without_a_key_a_placeholder_is_sent(monkeypatch):
    monkeypatch.delenv("TEST_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", "of somebody else")
    with Fake(otherwise=echo(401)) as fake:
        _, error = completions_and_error(OpenAIEngine("m", server(fake)), image_requests())
    assert "Bearer none" in error and "TEST_KEY is not set" in error


def test_a_key_that_no_header_can_carry_is_not_shown(monkeypatch):
    monkeypatch.setenv("TEST_KEY", "secret\u2014dash")
    with pytest.raises(UserError, match="TEST_KEY") as caught:
        list(OpenAIEngine("m", server("http://localhost/v1")).draw(image_requests(), SAMPLER))
    assert "secret" not in str(caught.value)


# The budget.


@pytest.mark.parametrize(
    ("limit", "requests"),
    [({"max_requests": 5}, 5), ({"max_tokens": 40}, 3), ({"max_requests": 2, "max_tokens": 40}, 2)],
)
def test_the_budget_ends_the_run_and_keeps_the_finished_draws(limit, requests):
    with Fake() as fake:
        completions, error = completions_and_error(
            OpenAIEngine("m", server(fake, concurrency=1, **limit)), image_requests(images=9)
        )
    assert len(fake.bodies) == requests == len(completions) and all(one.error is None for one in completions)
    assert (
        f"{requests} requests" in error and f"{15 * requests} tokens" in error and "finished draws are cached" in error
    )


def test_requests_in_flight_finish_when_the_budget_is_spent():
    with Fake(otherwise=slow(0.1)) as fake:
        completions, _ = completions_and_error(
            OpenAIEngine("m", server(fake, concurrency=4, max_requests=6)), image_requests(images=20)
        )
    assert len(fake.bodies) == 6 == len(completions)


def test_retries_count_and_a_draw_without_budget_has_no_completion():
    with Fake(good(), otherwise=status(500)) as fake:
        engine = OpenAIEngine("m", server(fake, concurrency=1, retries=9, max_requests=4))
        completions, _ = completions_and_error(engine, image_requests(images=2))
    assert len(fake.bodies) == 4 and [one.error for one in completions] == [None]


def test_a_budget_that_just_suffices_is_no_error_and_lasts_over_several_calls():
    with Fake() as fake:
        engine = OpenAIEngine("m", server(fake, max_requests=5))
        draw_all(engine, image_requests(draws=range(5)))
        completions, error = completions_and_error(engine, image_requests())
    assert not completions and "5 requests" in error


def test_a_limit_of_tokens_needs_a_server_that_counts_them():
    with Fake(otherwise=good(usage=False)) as fake:
        draw_all(OpenAIEngine("m", server(fake)), image_requests())
        _, error = completions_and_error(OpenAIEngine("m", server(fake, max_tokens=100)), image_requests(images=9))
    assert "does not report" in error


# Endpoints.


def test_a_dead_endpoint_is_reported_and_the_others_do_the_work(capsys):
    dead = closed_port()
    with Fake() as fake:
        draw_all(OpenAIEngine("m", server(dead, fake)), image_requests(images=8))
    printed = capsys.readouterr().err
    assert printed.count(dead) == 1 and f"continuing with {fake.url}" in printed and len(fake.bodies) == 8


def test_no_endpoint_at_all_is_a_sentence_with_the_next_command():
    dead = closed_port()
    completions, error = completions_and_error(OpenAIEngine("m", server(dead)), image_requests())
    assert dead in error and "docs/scale.md" in error and not completions


@pytest.mark.parametrize("url", ["", "localhost:8000", "http://", "http://host:port/v1", "ftp://host/v1"])
def test_an_endpoint_that_is_no_url_is_a_sentence(url):
    _, error = completions_and_error(OpenAIEngine("m", server(url)), image_requests())
    assert "server.endpoints has" in error
    _, error = completions_and_error(OpenAIEngine("m", server()), image_requests())
    assert "needs either server.command" in error


def test_only_endpoints_that_serve_the_model_get_requests(capsys):
    with Fake() as fake, Fake(models=["other"], otherwise=status(404)) as other:
        draw_all(OpenAIEngine("m", server(other, fake)), image_requests(images=8))
    assert f"{other.url}: serves other, not m" in capsys.readouterr().err and len(fake.bodies) == 8


def test_the_error_lists_what_each_endpoint_serves_instead_of_the_model():
    names = [f"model {i}" for i in range(9)]
    with Fake(models=["other"], otherwise=status(404)) as one, Fake(models=names, otherwise=status(400)) as two:
        _, error = completions_and_error(OpenAIEngine("m", server(one, two)), image_requests())
    assert f"{one.url}: serves other, not m" in error and "model 4 and 4 more, not m" in error
    assert "under the name m" in error


@pytest.mark.parametrize("models", [None, 500, [], ["what is cached"]])
def test_a_list_of_models_without_information_is_no_obstacle(models):
    with Fake(models=models) as fake:
        draw_all(OpenAIEngine("m", server(fake)), image_requests())


def test_all_endpoints_share_the_work_and_none_has_more_than_its_share_in_flight():
    with Fake(otherwise=slow(0.05)) as one, Fake(otherwise=slow(0.05)) as two:
        draw_all(OpenAIEngine("m", server(one, two, concurrency=3)), image_requests(images=40))
    assert one.peak == two.peak == 3
    assert min(len(one.bodies), len(two.bodies)) >= 10


@pytest.mark.slow
def test_retries_go_to_another_endpoint():
    with Fake(otherwise=status(500)) as broken, Fake(otherwise=slow(0.05)) as fake:
        completions = draw_all(
            OpenAIEngine("m", server(broken, fake, retries=1, concurrency=2)), image_requests(images=20)
        )
    assert all(one.error is None for one in completions.values())
    assert max(broken.questions.values()) == 1 and fake.peak == 2


# The thread behind it.


def test_completions_are_yielded_while_the_rest_is_drawn():
    second = threading.Event()

    def hold(handler, body):
        second.set()
        handler.server.fake.over.wait(1)
        handler.send(200, answer(body))

    with Fake(good(), otherwise=hold) as fake:
        draws = OpenAIEngine("m", server(fake, concurrency=1)).draw(image_requests(images=2), SAMPLER)
        assert len(next(draws)) == 1
        assert second.wait(5), "the second is requested while the caller has the first"
        fake.over.set()
        assert [len(batch) for batch in draws] == [1]


@contextmanager
def nothing_left(fake):
    before = threads()
    yield
    assert threads() == before
    for _ in range(500):
        if fake.connections == fake.in_flight:
            break
        time.sleep(0.01)
    assert fake.connections == fake.in_flight, "of those that are not just hanging in the server"
    # A busy machine may read requests in flight late; then no more may follow.
    for _ in range(50):
        count = len(fake.bodies)
        time.sleep(0.2)
        if count == len(fake.bodies):
            break
    assert len(fake.bodies) == count


@pytest.mark.parametrize("end", [GeneratorExit, KeyboardInterrupt])
def test_a_caller_that_stops_leaves_nothing_behind(end):
    with Fake(good(), good(), otherwise=hang) as fake, nothing_left(fake):
        # By name, so that a thread looks it up.
        url = fake.url.replace("127.0.0.1", "localhost")
        draws = OpenAIEngine("m", server(url)).draw(image_requests(images=50), SAMPLER)
        assert next(draws)
        for _ in range(100):  # a busy machine may send the other requests late
            if fake.in_flight:
                break
            time.sleep(0.1)
        with pytest.raises(end):
            draws.throw(end)
        assert fake.in_flight, "those that hang in the server are not waited for"


def test_an_error_and_an_end_leave_nothing_behind():
    with Fake(status(401), otherwise=slow(0.2)) as fake, nothing_left(fake):
        completions_and_error(OpenAIEngine("m", server(fake)), image_requests(images=50))
        draw_all(OpenAIEngine("m", server(fake)), image_requests())


def test_a_bug_behind_it_reaches_the_caller(monkeypatch):
    monkeypatch.setattr(engine_module, "body", lambda *_: 1 / 0)
    with Fake() as fake, nothing_left(fake), pytest.raises(ZeroDivisionError):
        draw_all(OpenAIEngine("m", server(fake)), image_requests())
