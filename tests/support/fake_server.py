"""A real HTTP server on this machine with the chat completions API, and with the failures that a test scripts."""

import json
import threading
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.core.engine import Request, Sampler
from pipeline.engines.servers import background, endpoints
from pipeline.engines.servers.budget import Server

PNG = b"\x89PNG\r\n\x1a\n and more"
JPEG = b"\xff\xd8\xff and more"
KEY = "sk-secret'\\0123456789"

SAMPLER = Sampler(
    temperature=0.7,
    top_p=0.9,
    top_k=0,
    repetition_penalty=1.0,
    penalize_prompt=True,
    max_new_tokens=12,
    stop=(),
    seed=3,
)


@pytest.fixture
def quick(monkeypatch):
    """Short waits between retries, and a key in the environment."""
    monkeypatch.setattr(endpoints, "BACKOFF", 0.01)
    monkeypatch.setattr(background, "YIELD_EVERY", 0.05)
    monkeypatch.setenv("TEST_KEY", KEY)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        with self.server.fake.lock:
            self.server.fake.connections += 1

    def finish(self):
        with self.server.fake.lock:
            self.server.fake.connections -= 1
        super().finish()

    def log_message(self, *_):
        pass

    def send(self, status, content, headers=(), length=None):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        head = {"Content-Type": "application/json", "Content-Length": length or len(content), **dict(headers)}
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in head.items())]
        self.wfile.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)

    def do_GET(self):
        fake = self.server.fake
        if fake.models is None:
            self.send(404, {"detail": "Not Found"})
        elif isinstance(fake.models, int):
            self.send(fake.models, {"error": {"message": f"your header: {self.headers['Authorization']}"}})
        else:
            self.send(200, {"object": "list", "data": [{"id": name} for name in fake.models]})

    def do_POST(self):
        fake = self.server.fake
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with fake.lock:
            fake.bodies.append(body)
            fake.in_flight += 1
            fake.peak = max(fake.peak, fake.in_flight)
            reply = fake.replies.pop(0) if fake.replies else fake.otherwise
        try:
            reply(self, body)
        finally:
            with fake.lock:
                fake.in_flight -= 1


class Fake:
    """A server that gives `replies` one after the other, and `otherwise` from then on."""

    def __init__(self, *replies, otherwise=None, models=("m",)):
        self.replies, self.otherwise, self.models = list(replies), otherwise or good(), models
        self.lock, self.bodies, self.in_flight, self.peak = threading.Lock(), [], 0, 0
        self.connections = self.sent = 0
        self.over = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads, self.http.fake = True, self
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over.set()
        self.http.shutdown()
        self.http.server_close()

    @property
    def questions(self):
        """How many requests each question had."""
        return Counter(body["messages"][0]["content"][1]["text"] for body in self.bodies)


def answer(body, text=None, count=None, reason="stop", usage=True, **extra):
    count = body.get("n", 1) if count is None else count
    content = f"seed {body.get('seed')}" if text is None else text
    choice = {"finish_reason": reason, **extra}
    choices = [{"index": i, "message": {"role": "assistant", "content": content}, **choice} for i in range(count)]
    if text is None:
        for place, one in enumerate(choices):
            one["message"]["content"] += f" choice {place}"
    tokens = {"usage": {"prompt_tokens": 10, "completion_tokens": 5 * count}} if usage else {}
    return {"id": "x", "object": "chat.completion", "model": "m", "choices": choices} | tokens


def good(**how):
    return lambda handler, body: handler.send(200, answer(body, **how))


def status(code, content=None, headers=()):
    return lambda handler, body: handler.send(
        code, content or {"error": {"message": f"scripted error {code}"}}, headers
    )


def server(*fakes, **settings):
    defaults = Server(
        endpoints=tuple(fake if isinstance(fake, str) else fake.url for fake in fakes),
        command="",
        start_timeout=5.0,
        gpus=1,
        dialect="openai",
        draws_per_request=1,
        concurrency=4,
        timeout=5.0,
        retries=3,
        max_requests=0,
        max_tokens=0,
        key_variable="TEST_KEY",
    )
    return replace(defaults, **settings)


def image_requests(images=1, draws=(0,)):
    return [Request(f"image {i}", PNG, f"What is this, {i}?", draws) for i in range(images)]


def draw_all(engine, requests, sampler=SAMPLER):
    """All completions, each draw of each image exactly once."""
    completions = [completion for batch in engine.draw(requests, sampler) for completion in batch]
    expected = sorted((request.image_id, draw) for request in requests for draw in request.draws)
    assert sorted((completion.image_id, completion.draw) for completion in completions) == expected
    return {(completion.image_id, completion.draw): completion for completion in completions}


def text_of_model(handler, body):
    """The text that hostile modes put wherever a text can be: the key as the request had it, and terminal codes."""
    return f"K {handler.headers['Authorization']} \x1b]0;title\x07 \u202e"


def _hostile(**parts):
    """An answer whose parts are values, or functions of the hostile text."""

    def reply(handler, body):
        text = text_of_model(handler, body)
        values = {name: value(text) if callable(value) else value for name, value in parts.items()}
        one = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}
        message = values.pop("message", {})
        usage = values.pop("usage", {"prompt_tokens": 10, "completion_tokens": 5})
        one |= values | {"message": one["message"] | message}
        handler.send(200, {"id": "x", "model": "m", "choices": [one], "usage": usage})

    return reply


def _sent(content, headers=(), status=200):
    return lambda handler, body: handler.send(status, content, headers)


def _endless(handler, body):
    """A body without an end: until the other side closes, or 200 MB are sent."""
    handler.wfile.write(b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\n\r\n")
    handler.close_connection = True
    try:
        for _ in range(200):
            handler.wfile.write(b" " * 2**20)
            handler.server.fake.sent += 2**20
    except OSError:
        pass


def _bomb():
    import gzip

    return gzip.compress(b" " * 2**26, mtime=0)


DEEP = b'{"choices":' + b"[" * 200_000 + b"]" * 200_000 + b"}"

HOSTILE = {
    "key in finish_reason": _hostile(finish_reason=lambda text: text, message={"content": None}),
    "key in text": _hostile(message=lambda text: {"content": text}),
    "key in parts": _hostile(message=lambda text: {"content": [{"type": "text", "text": text}]}),
    "key in pieces of parts": _hostile(
        message=lambda text: {
            "content": [{"type": "text", "text": text[start : start + 6]} for start in range(0, len(text), 6)]
        }
    ),
    "key in reasoning": _hostile(message=lambda text: {"content": None, "reasoning_content": text}),
    "key in reasoning and text": _hostile(message=lambda text: {"content": text, "reasoning": text}),
    "key in error 400": lambda h, b: h.send(400, {"error": {"message": text_of_model(h, b) * 50}}),
    "key in error 500": lambda h, b: h.send(500, {"error": {"message": text_of_model(h, b)}}),
    "key in another form": lambda h, b: h.send(422, {"detail": [text_of_model(h, b)]}),
    "key in no choices": lambda h, b: h.send(200, {"error": text_of_model(h, b)}),
    "key as a name": lambda h, b: h.send(200, {"choices": [], h.headers["Authorization"]: 1}),
    "deep JSON": _sent(DEEP),
    "deep JSON in an error": _sent(DEEP, status=400),
    "lone surrogate in an error": _sent(b'{"error": {"message": "no \\ud800 such"}}', status=400),
    "error of another type": _sent({"error": {"message": ["K"], "code": {"x": []}}}, status=400),
    "error that is a list": _sent([[["K"]]], status=422),
    "compressed error": lambda h, b: h.send(400, _bomb(), {"Content-Encoding": "gzip"}),
    "status of another kind": _sent(b"odd", status=299),
    "status beyond all": _sent(b"odd", status=999),
    "not UTF-8": _sent(b'{"choices": "\xff\xfe"}'),
    "lone surrogate": _hostile(message={"content": "wren \ud800"}),
    "long logprob": _sent(
        b'{"choices": [{"finish_reason": "stop", "message": {"content": "ok"}, "logprobs": {"content": [{"token": "a",'
        b'"logprob": ' + b"9" * 400 + b"}]}}]}"
    ),
    "infinite logprob": _sent(
        b'{"choices": [{"finish_reason": "stop", "message": {"content": "ok"}, "logprobs": {"content": [{"token": "a",'
        b'"logprob": -1e999}]}}]}'
    ),
    "many tokens": _hostile(usage={"prompt_tokens": 10**25, "completion_tokens": 10**25}),
    "negative tokens": _hostile(usage={"prompt_tokens": -(10**6), "completion_tokens": -(10**6)}),
    "tokens of another type": _hostile(usage={"prompt_tokens": "many", "completion_tokens": True}),
    "choices of another type": _sent({"choices": {"0": "x"}}),
    "message of another type": _sent({"choices": [{"message": ["x"]}]}),
    "null": _sent(b"null"),
    "nothing": _sent(b""),
    "compressed": _sent(_bomb(), {"Content-Encoding": "gzip"}),
    "endless": _endless,
    "redirect": _sent(b"", {"Location": "http://127.0.0.1:9/v1/chat/completions"}, 307),
}
"""What a server may do to its client, by name; both the drawing and the judge are tested with all of it."""
