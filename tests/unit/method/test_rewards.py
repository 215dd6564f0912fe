"""The rewards of each method, and how the answer to the open question is compared with the name of the class."""

import pytest
from support.training import LISTS

from pipeline.method.rewards import name_reward, rewards, string_reward

ANSWERS = [
    ("<answer>arctic-tern</answer>", 1.0, 0.0, "the published code drops blanks and underscores, not hyphens"),
    ("<answer>Sterna paradisaea</answer>", 1.0, 0.0, "an alias"),
    ("<answer>Arctic_Tern</answer>", 1.0, 1.0, "both"),
    ("<answer>tern</answer>", 0.0, 1.0, "a part of the name is right for the published code"),
    ("<answer>Common Tern</answer>", 0.0, 0.0, "another class"),
    ("Arctic Tern", 0.0, 0.0, "no answer"),
]


@pytest.mark.parametrize(("text", "matcher", "string", "reason"), ANSWERS)
def test_open_answers_are_rewarded_by_the_matcher_or_as_the_published_code_compares(text, matcher, string, reason):
    chat = [[{"role": "assistant", "content": text}]]
    assert name_reward(LISTS)(chat, dataset=["d"], class_id=[0]) == [matcher], reason
    assert string_reward(chat, name=["Arctic Tern"]) == [string], reason


def test_each_method_has_its_rewards():
    assert [r.__name__ for r in rewards("divek", "matcher", LISTS)] == ["letter_reward", "format_reward"]
    assert [r.__name__ for r in rewards("virft", "matcher", LISTS)] == ["name_reward", "format_reward"]
    assert [r.__name__ for r in rewards("virft", "string", LISTS)] == ["string_reward", "format_reward"]
