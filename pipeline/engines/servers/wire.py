"""Requests to an OpenAI-compatible server, and how its responses are parsed. Nothing is sent from here."""

import base64
import json
import math
import re
from collections.abc import Collection, Sequence
from typing import Any

from pipeline.core.engine import GREEDY, Completion, Request, Sampler, failed
from pipeline.engines.common.noise import stream
from pipeline.engines.common.probability import answer_probability
from pipeline.engines.servers.api_key import clean
from pipeline.method.chat import Chat
from pipeline.method.thoughts import complete_served_thought, with_thought

MOST_TOKENS = 10**9  # of one answer
OPTIONAL_FIELDS = {
    "n": "the server ignores n and returns one answer per request: sending one request per draw",
    "seed": "the server rejects seed: continuing without it, so the draws cannot be reproduced",
    "logprobs": "the server rejects logprobs: continuing without token probabilities",
}
"""Fields that a request can do without, and what is said once where it has to."""

KINDS = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png"}


def image_kind(image: bytes) -> str | None:
    """jpeg or png, by the file's first bytes; None where it is neither."""
    return next((kind for magic, kind in KINDS.items() if image.startswith(magic)), None)


def _image_part(image: bytes | None) -> dict[str, Any]:
    """The part of a message that holds an image; empty where there is none."""
    if image is None:
        return {}
    url = f"data:image/{image_kind(image)};base64,{base64.b64encode(image).decode('ascii')}"
    return {"type": "image_url", "image_url": {"url": url}}


def body(
    dialect: str, request: Request, draws: Sequence[int], sampler: Sampler, chat: Chat, probabilities: bool = True
) -> dict[str, Any]:
    """One chat completion without the model's name, for GREEDY alone or for draws with consecutive numbers.

    The seeds of an image's draws are consecutive too: vLLM gives answer i of a request its seed + i, so that a draw is
    the same whichever request asks for it.

    Args:
        probabilities: ask for the token probabilities of the greedy answer.
    """
    messages = chat.messages(request.question)
    for message in messages:
        message["content"] = [
            _image_part(request.image) if part["type"] == "image" else part for part in message["content"]
        ]
        message["content"] = [part for part in message["content"] if part]
    greedy = GREEDY in draws
    fields: dict[str, Any] = {
        "messages": messages,
        "temperature": 0.0 if greedy else sampler.temperature,
        "top_p": 1.0 if greedy else sampler.top_p,
        "max_tokens": sampler.max_new_tokens,
    }
    if not greedy:
        # vLLM takes signed 64-bit seeds, others 32 bits: 31 bits are valid everywhere.
        fields["seed"] = (stream(sampler.seed, request.image_id, 0) & 0x3FFFFFFF) + draws[0]
    elif probabilities:
        fields["logprobs"] = True
    if len(draws) > 1:
        fields["n"] = len(draws)
    if dialect != "openai":
        # Sent even if they are off: the server takes omitted ones from the model's generation_config.json.
        extra: dict[str, Any] = {
            "top_k": -1 if greedy or not sampler.top_k else sampler.top_k,
            "repetition_penalty": sampler.repetition_penalty,
        }
        if sampler.stop:
            fields["stop"] = list(sampler.stop)
            if dialect == "vllm":
                extra["include_stop_str_in_output"] = True
        if chat.template_kwargs:
            extra["chat_template_kwargs"] = chat.template_kwargs
        fields["extra_body"] = extra
    return fields


def completions(
    answer: dict[str, Any], request: Request, draws: Sequence[int], stop: Sequence[str]
) -> list[Completion]:
    """The choices, as completions of the first draws where there are fewer choices than draws.

    A server counts the tokens of all choices together, those after a stop text that is cut off here included; the
    choices share them evenly.
    """
    entries = choices(answer)[: len(draws)]
    total, results = usage(answer, "completion_tokens"), []
    for place, (draw, choice) in enumerate(zip(draws, entries, strict=False)):
        tokens = total * (place + 1) // len(entries) - total * place // len(entries)
        text, finish_reason = _text(choice["message"]), choice.get("finish_reason")
        if text is None or finish_reason in ("content_filter", "abort"):
            results.append(failed(request, draw, f"no text, finish_reason {str(finish_reason)[:40]!r}", tokens))
            continue
        # vLLM and SGLang name the text that ended the draw, and SGLang cuts it off.
        stop_text = next((mark for mark in stop if mark in (choice.get("stop_reason"), choice.get("matched_stop"))), "")
        text, stopped = _until_stop(text if text.endswith(stop_text) else text + stop_text, stop)
        finished = stopped or finish_reason != "length"
        results.append(Completion(request.image_id, draw, text, tokens, finished, probability=probability(choice)))
    return results


def _text(message: dict[str, Any]) -> str | None:
    """The text of a message, with its whole thought; None where there is none.

    A thought that the server keeps apart is put back as models write it, and one that the prompt opened gets its tag.
    """
    content = _content(message.get("content"))
    thought = message.get("reasoning_content") or message.get("reasoning")
    if thought and isinstance(thought, str):
        return with_thought(thought, content or "")
    return None if content is None else complete_served_thought(content)


def _content(content: Any) -> str | None:
    """The content of a message: a string, or parts of which some are text."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and "text" in str(part.get("type"))]
        texts = [part for part in parts if isinstance(part, str)]
        return "".join(texts) if texts else None
    return content if isinstance(content, str) else None


def rejected_fields(reason: str, fields: Collection[str]) -> list[str]:
    """The optional fields of a request that a server's rejection is about.

    A field in quotes; `logprobs`, no common word, also without; and n where it is called a number or said to be too
    large ("n must be 1", "n > 1 is not supported").
    """
    patterns = {name: rf"""['"`]{name}\\?['"`]""" for name in OPTIONAL_FIELDS}
    patterns["logprobs"] = r"\blog_?probs?\b"
    patterns["n"] += r"|(?<![\w.\\])n\s*(?:[=><!:]|(?:must|should|has|can|is|may|values?|greater|larger|over)\b)"
    return [name for name, pattern in patterns.items() if name in fields and re.search(pattern, reason, re.IGNORECASE)]


def probability(choice: dict[str, Any]) -> float | None:
    """Probability of the choice's answer; None if the server does not report it."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    try:
        pieces = [(str(one["token"]), float(one["logprob"])) for one in content or []]
    except (TypeError, KeyError, ValueError, OverflowError):
        return None
    if not all(math.isfinite(logprob) for _, logprob in pieces):
        return None
    return answer_probability([piece for piece, _ in pieces], [logprob for _, logprob in pieces])


def parse_json(content: bytes, key: str) -> Any:
    """The JSON of an answer's body, without the key in any text; None where it is not JSON, or nested too deep."""
    try:
        return clean(json.loads(content), key)
    except (ValueError, RecursionError):
        return None


def shown(content: bytes, key: str) -> str:
    """A body as a message shows it: JSON without its escapes, in which the key could hide."""
    value = parse_json(content, key)
    return content.decode("utf-8", "replace") if value is None else json.dumps(value, ensure_ascii=False)


def choices(answer: Any) -> list[dict[str, Any]]:
    """The choices of an answer; empty where one of them has no message."""
    entries = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(entries, list) or not all(
        isinstance(c, dict) and isinstance(c.get("message"), dict) for c in entries
    ):
        return []
    return entries


def usage(answer: Any, name: str) -> int:
    """A count of tokens as the server reports it, 0 where it does not."""
    entries = answer.get("usage") if isinstance(answer, dict) else None
    count = entries.get(name) if isinstance(entries, dict) else None
    # A wrong count must not lift the budget, nor leave the range of the tables.
    return count if isinstance(count, int) and 0 <= count <= MOST_TOKENS else 0


def _until_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """`text` up to the end of the first stop text in it, and whether there is one."""
    ends = [text.find(mark) + len(mark) for mark in stop if mark in text]
    return (text[: min(ends)], True) if ends else (text, False)
