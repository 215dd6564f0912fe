"""Thoughts that a prompt opens or a server keeps apart are whole again before a completion is read and rewarded."""

import pytest

from pipeline.method.answers import answer_text
from pipeline.method.rewards import format_reward
from pipeline.method.thoughts import (
    after_thought,
    complete_served_thought,
    complete_thought,
    whole_turn,
    with_thought,
)

REST = "a wren</think><answer>A</answer>"


@pytest.mark.parametrize("end", ["<think>", "<think>\n", "<|im_start|>assistant\n<think>\n\n"])
def test_a_thought_that_the_prompt_opens_is_completed(end):
    assert format_reward([REST]) == [0.0]
    text = complete_thought(REST, f"Which bird is this? {end}")
    assert text == f"<think>{REST}" and format_reward([text]) == [1.0] and answer_text(text) == "A"


@pytest.mark.parametrize(
    "prompt",
    [
        "assistant\n",
        "<think>\n\n</think>\n\n",  # as templates write it for a model that is not to think
        "Write your reasons between <think> and </think>. assistant\n",
        "Begin with <think><|im_end|>\nassistant\n",
    ],
)
def test_a_thought_that_the_prompt_does_not_open_is_left_alone(prompt):
    for text in (REST, f"<think>{REST}", "<answer>A</answer>", ""):
        assert complete_thought(text, prompt) == text


@pytest.mark.parametrize(
    ("prompt", "completion", "is_right", "reason"),
    [
        ("assistant\n<think>\n", REST, 1, "the template opens the thought"),
        ("assistant\n<think>\n", f"<think>{REST}", 0, "a second thought opens inside the first"),
        ("assistant\n<think>\n\n</think>\n\n", "<answer>A</answer>", 1, "the template writes the whole thought"),
        ("assistant\n<think>\n\n</think>\n\n", f"<think>{REST}", 0, "a second thought after the first"),
        ("assistant\n<think>\n\n</think>\n\n", "A", 0, "no answer"),
        ("assistant\n", f"<think>{REST}", 1, "the completion alone"),
        ("assistant\n", "<answer>A</answer>", 0, "no thought"),
        ("Write <think> </think><|im_end|>assistant\n", "<answer>A</answer>", 0, "tags of the question are no thought"),
    ],
)
def test_the_format_is_judged_on_the_whole_turn(prompt, completion, is_right, reason):
    assert format_reward([whole_turn(completion, prompt)]) == [is_right], reason


def test_an_answer_in_a_thought_that_was_cut_off_does_not_count():
    draft = "<answer>A</answer> or <answer>B</answer>? Perhaps <answer>A</answer>"
    text = complete_thought(f"{draft[:18]}", "<think>\n")
    assert answer_text(draft[:18]) == "A" and answer_text(text) is None and format_reward([text]) == [0.0]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        (REST, f"<think>{REST}"),
        ("a wren < / THINK > B", "<think>a wren < / THINK > B"),
        (f"<think>{REST}", f"<think>{REST}"),
        ("<answer>A</answer>", "<answer>A</answer>"),
        ("a <think>b</think> c", "a <think>b</think> c"),
        ("", ""),
    ],
)
def test_a_served_thought_is_completed_by_its_end(text, whole):
    assert complete_served_thought(text) == whole == complete_served_thought(whole)


def test_a_thought_apart_is_put_in_front_and_left_open_where_nothing_came_after_it():
    assert with_thought("a wren", "<answer>A</answer>") == "<think>a wren</think><answer>A</answer>"
    assert with_thought("a wren or", "") == "<think>a wren or"
    assert after_thought(with_thought("no", "yes")) == "yes" == after_thought("yes")
