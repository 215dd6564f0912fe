"""The settings of chats: what draws depend on, and names that no chat template has."""

from dataclasses import fields

import pytest
from support.project import ROOT

from pipeline.core.params import UserError, load_params
from pipeline.method.chat import PLAIN, RESERVED, Chat, ChatParams
from pipeline.method.prompts import chat


def test_without_settings_the_question_stands_alone_and_nothing_is_added_to_what_draws_depend_on():
    assert load_params(ChatParams, ROOT / "params.yaml").chat == PLAIN
    assert PLAIN.messages("What?") == chat("What?") and PLAIN.fingerprint() == {}


def test_every_setting_is_part_of_what_draws_depend_on():
    chats = [PLAIN, Chat("Look.", {}), Chat("See.", {}), Chat("", {"a": True}), Chat("", {"a": False, "b": 1})]
    assert len({str(one.fingerprint()) for one in chats}) == len(chats)
    assert Chat("", {"a": 1, "b": 2}).fingerprint() == Chat("", {"b": 2, "a": 1}).fingerprint()
    assert {field.name for field in fields(Chat)} == {field.name for field in fields(ChatParams)}


def test_a_system_message_comes_first():
    system, *others = Chat("Look.", {}).messages("What?")
    assert system == {"role": "system", "content": [{"type": "text", "text": "Look."}]} and others == chat("What?")


@pytest.mark.parametrize("name", ["tokenize", "messages", "chat_template"])
def test_a_name_that_is_the_pipelines_own_is_refused(name):
    with pytest.raises(UserError, match=f"chat.template_kwargs has {name}, which is no setting of a chat template"):
        Chat("", {"enable_thinking": False, name: True})


@pytest.mark.slow
def test_all_names_of_the_pipelines_own_are_known():
    from inspect import signature

    from transformers import PreTrainedTokenizerBase, ProcessorMixin

    theirs = {*signature(ProcessorMixin.apply_chat_template).parameters}
    assert theirs - {"self", "kwargs"} <= {*RESERVED}
    of_tokenizers = {*signature(PreTrainedTokenizerBase.apply_chat_template).parameters}
    assert of_tokenizers & {"tokenize", "return_dict", "tools", "continue_final_message"} <= {*RESERVED}
