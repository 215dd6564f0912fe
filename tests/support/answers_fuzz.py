"""Answers of a server as no server should give them: the shape of a chat completion with random faults."""

import json
import random
from typing import Any

KEYS = (
    *("id", "object", "model", "choices", "index", "message", "role", "content", "finish_reason", "stop_reason"),
    *("matched_stop", "logprobs", "token", "logprob", "usage", "prompt_tokens", "completion_tokens", "text", "type"),
    *("reasoning_content", "reasoning", "refusal", "error"),
)


def _scalar(rng: random.Random, key: str) -> Any:
    return rng.choice(
        (
            *(
                None,
                True,
                False,
                0,
                1,
                -1,
                2**31,
                2**63,
                -(2**70),
                10**25,
                0.5,
                -0.0,
                1e308,
                float("inf"),
                float("nan"),
            ),
            *("", "B", "<answer>B</answer>", "stop", "length", "content_filter", "text", "K " + key, key[::-1]),
            *("\ud800", "\x00", "\x1b]0;x\x07", "\u202e", "x" * 3000, "ﬅ" * 50, "</s>", "<think>", "\\boxed{{B}}"),
        )
    )


def _value(rng: random.Random, key: str, depth: int = 0) -> Any:
    kind = rng.random()
    if kind < 0.6 or depth > 4:
        return _scalar(rng, key)
    if kind < 0.8:
        return [_value(rng, key, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice((*KEYS, key)): _value(rng, key, depth + 1) for _ in range(rng.randrange(4))}


def _good(rng: random.Random) -> dict[str, Any]:
    pieces = [{"token": token, "logprob": -0.1} for token in ("<answer>", "B", "</answer>")]
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": "<answer>B</answer>"},
        "logprobs": {"content": pieces},
    }
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    return {"id": "x", "model": "m", "choices": [choice for _ in range(rng.choice((0, 1, 1, 2, 9)))], "usage": usage}


def _places(tree: Any, above: tuple = ()) -> list[tuple]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place for name, value in items for place in ((*above, name), *_places(value, (*above, name)))]


def fuzzed_answer(rng: random.Random, key: str) -> bytes:
    """The body of an answer with one to four faults; one in ten is cut off or has other bytes in it."""
    answer = json.loads(json.dumps(_good(rng)))
    for _ in range(rng.randint(1, 4)):
        places = _places(answer)
        if not places:
            break
        *above, last = rng.choice(places)
        tree = answer
        for name in above:
            tree = tree[name]
        if rng.random() < 0.2:
            del tree[last]
        else:
            tree[last] = _value(rng, key)
    body = json.dumps(answer).encode()
    if rng.random() < 0.1:
        place = rng.randrange(len(body) + 1)
        body = body[:place] + (b"" if rng.random() < 0.5 else rng.randbytes(3) + body[place:])
    return body
