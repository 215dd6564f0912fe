"""A server that means harm: nothing of the key stays, nothing ends in a traceback, and the others' answers count."""

import io
import json
import os
import random
import socket
import threading
import tracemalloc
import zlib

import polars as pl
import pytest
from support.answers_fuzz import fuzzed_answer
from support.fake_server import HOSTILE, KEY, PNG, Fake, answer, draw_all, good, image_requests, server

from pipeline.core import tables
from pipeline.core.engine import GREEDY, Completion, Request
from pipeline.core.params import UserError
from pipeline.engines.language_model import CheckedEngine, replies
from pipeline.engines.servers import http_client
from pipeline.engines.servers.api_key import PIECE, clean, remove_key
from pipeline.engines.servers.openai import OpenAIEngine
from pipeline.engines.servers.wire import choices, completions, parse_json, usage
from pipeline.evaluation.judge import fault
from pipeline.method.answers import letter
from pipeline.method.class_lists import ClassLists

pytestmark = pytest.mark.usefixtures("quick")

CLASS = {"dataset": "birds", "class_id": 0, "name": "wren", "subset": "base", "aliases": [], "noun": "bird"}
LISTS = ClassLists(pl.DataFrame([CLASS | {"group": None}], schema=tables.CLASSES.schema))
FATAL = ("redirect",)  # no further request could succeed


PIECES = {form[start : start + PIECE] for form in (KEY, repr(KEY)[1:-1]) for start in range(len(form) - PIECE + 1)}


def require_harmless(*texts: str) -> None:
    for text in texts:
        assert not any(piece in text for piece in PIECES)
        text.encode()  # a lone surrogate would raise


@pytest.mark.parametrize("mode", [mode for mode in HOSTILE if mode not in FATAL])
def test_that_draw_has_a_status_and_the_others_go_on(mode, capsys):
    with Fake(HOSTILE[mode]) as fake:
        engine = OpenAIEngine("m", server(fake, retries=0, concurrency=1))
        drawn = draw_all(engine, image_requests(images=3, draws=[GREEDY]))
    hostile, *others = (drawn[f"image {i}", GREEDY] for i in range(3))
    assert [one.error for one in others] == [None, None]
    assert all(0 <= one.tokens < 2**31 and (one.probability is None or one.probability <= 1) for one in drawn.values())
    require_harmless(hostile.text, hostile.error or "", capsys.readouterr().err)
    assert engine.budget.tokens >= 0


@pytest.mark.parametrize("mode", [mode for mode in HOSTILE if mode not in FATAL])
def test_the_judge_says_what_failed_in_a_sentence(mode, capsys):
    with Fake(otherwise=HOSTILE[mode]) as fake:
        engine = CheckedEngine(OpenAIEngine("m", server(fake, retries=0), probabilities=False), fault)
        with pytest.raises(UserError) as caught:
            replies(engine, ["Same?"], 9, "judge.model", "evaluate")
    assert "1 of 1 questions failed" in str(caught.value) and "\n" not in str(caught.value)
    require_harmless(str(caught.value), capsys.readouterr().err)


def test_a_redirect_is_not_followed():
    with Fake(models=None) as other:
        target = {"Location": f"{other.url}/chat/completions"}
        with Fake(otherwise=lambda handler, body: handler.send(307, b"", target)) as fake:
            with pytest.raises(UserError, match="redirects are not followed"):
                draw_all(OpenAIEngine("m", server(fake)), image_requests())
            assert len(fake.bodies) == 1
        assert not other.bodies


def test_what_no_request_asked_for_is_not_read_to_the_end():
    tracemalloc.start()
    with Fake(HOSTILE["endless"]) as fake:
        draw_all(OpenAIEngine("m", server(fake, retries=0)), image_requests(images=2))
        assert fake.sent < 3 * http_client.LARGEST_ANSWER
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * http_client.LARGEST_ANSWER


def test_no_header_names_an_organisation_of_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "our-organisation")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "our-project")
    headers = []

    def keep(handler, body):
        headers.append(str(handler.headers))
        good()(handler, body)

    with Fake(otherwise=keep) as fake:
        draw_all(OpenAIEngine("m", server(fake)), image_requests())
    assert headers and not any("our-" in one for one in headers)


def test_a_negative_count_of_tokens_does_not_lift_the_limit():
    with Fake(HOSTILE["negative tokens"], otherwise=good()) as fake:
        engine = OpenAIEngine("m", server(fake, concurrency=1, max_tokens=30))
        with pytest.raises(UserError, match=r"the budget is used up|does not report"):
            draw_all(engine, image_requests(images=9))


@pytest.mark.parametrize("key", ["x", "none", "EMPTY", "token"])
def test_what_is_no_secret_changes_no_text(key):
    answer = {"token": "fox x none token", "usage": {"completion_tokens": 5}}
    assert clean(answer, key) == answer


def test_a_key_that_is_made_of_words_is_removed_and_the_words_stay():
    key = "sk-no-key-required"
    assert remove_key(f"a key is required: {key}", key) == "a key is required: [key]"
    assert clean({"prompt_tokens": 1, key: 2}, key) == {"prompt_tokens": 1}


def test_a_key_in_json_escapes_is_removed_from_what_is_quoted():
    escaped = "".join(f"\\u{ord(character):04x}" for character in KEY)
    reply = lambda handler, body: handler.send(200, f'{{"error": "{escaped}"}}'.encode())  # noqa: E731
    with Fake(reply) as fake:
        (one,) = draw_all(OpenAIEngine("m", server(fake, retries=0)), image_requests()).values()
    assert "[key]" in one.error and escaped not in one.error
    require_harmless(one.error)


@pytest.mark.parametrize(("encoding", "wbits"), [("gzip", 31), ("deflate", 15)])
def test_a_compressed_answer_of_ordinary_size_is_read(encoding, wbits):
    def reply(handler, body):
        packer = zlib.compressobj(wbits=wbits)
        content = packer.compress(json.dumps(answer(body, text="wren")).encode()) + packer.flush()
        handler.send(200, content, {"Content-Encoding": encoding})

    with Fake(reply) as fake:
        (one,) = draw_all(OpenAIEngine("m", server(fake)), image_requests()).values()
    assert (one.text, one.error) == ("wren", None)


def test_many_requests_are_in_flight_at_once():
    together = threading.Barrier(150, timeout=20)

    def reply(handler, body):
        together.wait()
        good()(handler, body)

    with Fake(otherwise=reply) as fake:
        draw_all(OpenAIEngine("m", server(fake, concurrency=150, timeout=30.0)), image_requests(images=150))
        assert fake.peak == 150


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "[::]", "[::1]", "127.1", "localhost.", "[::ffff:127.0.0.1]", "a.localhost"]
)
def test_all_names_of_this_machine_are_known(host):
    assert http_client.is_loopback(f"http://{host}:8000/v1")


@pytest.mark.parametrize("host", ["example.org", "10.0.0.1", "[2001:db8::1]", "localhost.example.org"])
def test_other_hosts_are_others(host):
    assert not http_client.is_loopback(f"http://{host}:8000/v1")


def test_certificates_that_are_not_there_are_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    with pytest.raises(UserError, match=r"models\.example\.org/v1: (the certificates|.*)"):
        draw_all(OpenAIEngine("m", server("https://models.example.org/v1", timeout=2.0, retries=0)), image_requests())


# Proxies.


@pytest.fixture
def dead_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://user:pass-word@127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_this_machine_is_reached_past_any_proxy(dead_proxy, monkeypatch, name):
    monkeypatch.setenv(name, dead_proxy)
    with Fake() as fake:
        draw_all(OpenAIEngine("m", server(fake)), image_requests())
        draw_all(OpenAIEngine("m", server(fake.url.replace("127.0.0.1", "localhost"))), image_requests())


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_dead_proxy_is_named_by_its_variable_and_not_shown(dead_proxy, monkeypatch, name):
    monkeypatch.setenv(name, dead_proxy)
    with pytest.raises(UserError) as caught:
        draw_all(OpenAIEngine("m", server("http://models.example.org/v1")), image_requests())
    assert f"through the proxy that {name} names" in str(caught.value) and "NO_PROXY" in str(caught.value)
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize("address", ["socks5://127.0.0.1:1080", "gopher://127.0.0.1:1", "http://host:port"])
def test_a_proxy_that_cannot_be_used_is_a_sentence(dead_proxy, monkeypatch, address):
    monkeypatch.setenv("ALL_PROXY", address)
    with pytest.raises(UserError, match="the proxy of the environment variable ALL_PROXY cannot be used"):
        draw_all(OpenAIEngine("m", server("http://models.example.org/v1")), image_requests())
    with Fake() as fake:
        draw_all(OpenAIEngine("m", server(fake)), image_requests())


def test_a_host_without_proxy_is_said_to_have_none(dead_proxy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", dead_proxy)
    monkeypatch.setenv("NO_PROXY", "models.example.org")
    assert http_client.proxy_variable("http://models.example.org:8000/v1") is None
    assert http_client.proxy_variable("http://other.example.org/v1") == "HTTP_PROXY"
    assert http_client.proxy_variable("https://other.example.org/v1") is None


# Random faults.


SCHEMA = {"text": pl.String, "tokens": pl.Int64, "finished": pl.Boolean, "probability": pl.Float64}
ANSWERS = int(os.environ.get("DIVEK_RANDOM_ANSWERS", "10000"))


def completions_of(body: bytes) -> list[Completion]:
    """What the engine makes of the body of an answer, which names no key and counts no impossible numbers."""
    request = Request("x", PNG, "?", [GREEDY, 0, 1])
    answer = parse_json(body, KEY)
    drawn = completions(answer, request, [GREEDY, 0, 1], ("</answer>",)) if choices(answer) else []
    for one in drawn:
        parsed = LISTS.parse(one, "birds", "base")
        require_harmless(one.text, one.error or "", parsed.text)
        assert 0 <= one.tokens < 2**31
        assert one.probability is None or 0 <= one.probability <= 1
        letter(one.text, ["wren", "owl"])
    assert 0 <= usage(answer, "prompt_tokens") < 2**31
    return drawn


@pytest.mark.parametrize("count", [1000, pytest.param(ANSWERS, marks=pytest.mark.slow)])
def test_random_answers_are_completions_that_tables_hold_or_none(count):
    """DIVEK_RANDOM_ANSWERS sets how many, of which 100,000 were tried."""
    rng, drawn = random.Random(count), []
    for _ in range(count):
        drawn += completions_of(fuzzed_answer(rng, KEY))
    assert len(drawn) > count / 10
    columns = {name: [getattr(one, name) for one in drawn] for name in SCHEMA}
    pl.DataFrame(columns, schema=SCHEMA).write_parquet(io.BytesIO())


@pytest.mark.slow
def test_a_server_that_answers_at_random_leaves_a_status_for_every_draw(capsys):
    rng, lock = random.Random(3), threading.Lock()

    def reply(handler, body):
        with lock:
            content = fuzzed_answer(rng, KEY)
        handler.send(rng.choice([200] * 20 + [400, 422, 429, 500, 503]), content)

    with Fake(otherwise=reply) as fake:
        engine = OpenAIEngine("m", server(fake, retries=1, draws_per_request=3))
        drawn = draw_all(engine, image_requests(images=300, draws=[GREEDY, *range(5)]))
    assert {one.error is None for one in drawn.values()} == {True, False}
    require_harmless(capsys.readouterr().err, *(one.text + (one.error or "") for one in drawn.values()))
