"""Rewards of a completion: pure functions in the form that TRL calls, one number per completion."""

from collections.abc import Callable, Sequence
from string import ascii_uppercase
from typing import Any

from pipeline.method.answers import answer_text, letter, well_formed
from pipeline.method.class_lists import ClassLists

Completion = str | Sequence[dict[str, Any]]
Reward = Callable[..., list[float]]


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


def answer_format_reward() -> Reward:
    """The format reward of a style without reasoning: 1 where the completion is `<answer>…</answer>` alone, else 0."""

    def format_reward(completions: Sequence[Completion], **_: Any) -> list[float]:
        return [float(well_formed(text_of(completion), thought=False)) for completion in completions]

    return format_reward


def name_reward(lists: ClassLists) -> Reward:
    """A reward for open answers: 1 where the completion names the true class, by the pipeline's own matcher, else 0."""

    def name_reward(
        completions: Sequence[Completion], dataset: Sequence[str], class_id: Sequence[int], **_: Any
    ) -> list[float]:
        texts = [text_of(completion) for completion in completions]
        return [
            float(lists.match(answer_text(text), where, "base") == truth)
            for text, where, truth in zip(texts, dataset, class_id, strict=True)
        ]

    return name_reward


def string_reward(completions: Sequence[Completion], name: Sequence[str], **_: Any) -> list[float]:
    """1 where answer or class name contains the other, without case, blanks and underscores, else 0.

    As the published code of Visual-RFT compares them: "tern" is right for every tern.
    """
    return [
        float(bool(answer) and (answer in right or right in answer))
        for answer, right in zip(_answers(completions), map(_bare, name), strict=True)
    ]


def truth_in_answer_reward(completions: Sequence[Completion], name: Sequence[str], **_: Any) -> list[float]:
    """1 where the answer contains the class name, without case, blanks and underscores, else 0.

    As the published code of DiVE-k compares them, except that text outside of <answer> never counts: there a completion
    without <answer> is searched as a whole. "tern" is wrong for every tern, "Arctic Tern or Common Tern" right for two.
    """
    return [float(right in answer) for answer, right in zip(_answers(completions), map(_bare, name), strict=True)]


def _answers(completions: Sequence[Completion]) -> list[str]:
    return [_bare(answer_text(text_of(completion)) or "") for completion in completions]


def _bare(text: str) -> str:
    return text.replace(" ", "").replace("_", "").lower()


VIRFT_REWARDS = ("matcher", "truth_in_answer", "string")


def rewards(method: str, virft_reward: str, lists: ClassLists, thought: bool = True) -> tuple[Reward, Reward]:
    """The rewards of a method, in the order of their weights: for the right answer, and for its form.

    `thought`: whether the style of the prompts asks for one.
    """
    form = format_reward if thought else answer_format_reward()
    if method == "divek":
        return letter_reward, form
    comparisons = {"truth_in_answer": truth_in_answer_reward, "string": string_reward}
    return comparisons.get(virft_reward, name_reward(lists)), form
