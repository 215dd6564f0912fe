"""Rewards of a completion: pure functions in the form that TRL calls, one number per completion."""

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

from pipeline.answers import letter, well_formed

Completion = str | Sequence[dict[str, Any]]


def text_of(completion: Completion) -> str:
    """The text of a completion, which TRL gives as a string or, for chats, as a list of one assistant message."""
    return completion if isinstance(completion, str) else "".join(str(turn["content"]) for turn in completion)


def letter_reward(
    completions: Sequence[Completion],
    answer: Sequence[str],
    options: Sequence[Sequence[str]] | None = None,
    **_: Any,
) -> list[float]:
    """1 where the completion chooses the right letter, else 0.

    `answer` holds the right letters, `options` the names offered; without `options` every letter counts as offered and
    an answer in words is not read.
    """
    offered = options if options is not None else [ascii_uppercase] * len(completions)
    return [
        float(letter(text_of(completion), names) == right)
        for completion, names, right in zip(completions, offered, answer, strict=True)
    ]


def format_reward(completions: Sequence[Completion], **_: Any) -> list[float]:
    """1 where the completion is `<think>…</think><answer>…</answer>` and nothing else, else 0."""
    return [float(well_formed(text_of(completion))) for completion in completions]


REWARDS = (letter_reward, format_reward)
"""In the order of their weights."""
