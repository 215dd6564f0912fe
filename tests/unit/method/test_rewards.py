"""The rewards of each method, and how the answer to the open question is compared with the name of the class."""

import pytest
from support.training import LISTS

from pipeline.method.rewards import VIRFT_REWARDS, name_reward, rewards, string_reward, truth_in_answer_reward

ANSWERS = [
    ("<answer>arctic-tern</answer>", 1.0, 0.0, 0.0, "the published code drops blanks and underscores, not hyphens"),
    ("<answer>Sterna paradisaea</answer>", 1.0, 0.0, 0.0, "an alias"),
    ("<answer>Arctic_Tern</answer>", 1.0, 1.0, 1.0, "all of them"),
    ("<answer>tern</answer>", 0.0, 0.0, 1.0, "a part of the name is right for the code of Visual-RFT"),
    ("<answer>an Arctic Tern in flight</answer>", 0.0, 1.0, 1.0, "the name and more"),
    ("<answer>Arctic Tern or Common Tern</answer>", 0.0, 1.0, 1.0, "two names, of which one is right"),
    ("<answer>Common Tern</answer>", 0.0, 0.0, 0.0, "another class"),
    ("<think>Arctic Tern</think><answer>gull</answer>", 0.0, 0.0, 0.0, "the name outside of the answer"),
    ("Arctic Tern", 0.0, 0.0, 0.0, "no answer; the published code searches the whole text"),
    ("<answer></answer>", 0.0, 0.0, 0.0, "an empty answer, which every name contains"),
]


@pytest.mark.parametrize(("text", "matcher", "truth_in_answer", "string", "reason"), ANSWERS)
def test_open_answers_are_rewarded_by_the_matcher_or_as_the_published_code_compares(
    text, matcher, truth_in_answer, string, reason
):
    chat = [[{"role": "assistant", "content": text}]]
    assert name_reward(LISTS)(chat, dataset=["d"], class_id=[0]) == [matcher], reason
    assert truth_in_answer_reward(chat, name=["Arctic Tern"]) == [truth_in_answer], reason
    assert string_reward(chat, name=["Arctic Tern"]) == [string], reason


def test_each_method_has_its_rewards():
    assert [r.__name__ for r in rewards("divek", "matcher", LISTS)] == ["letter_reward", "format_reward"]
    names = [rewards("virft", one, LISTS)[0].__name__ for one in VIRFT_REWARDS]
    assert names == ["name_reward", "truth_in_answer_reward", "string_reward"]
    assert {rewards("virft", one, LISTS)[1].__name__ for one in VIRFT_REWARDS} == {"format_reward"}
