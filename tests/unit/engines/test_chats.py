"""System messages, settings of chat templates, and thoughts that these open: in draws and in prompts of training."""

from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.engines import SAMPLER, texts
from support.tiny_models import REFUSAL, thinking_model

from pipeline.core.engine import GREEDY, Request
from pipeline.core.params import UserError
from pipeline.core.pictures import picture
from pipeline.engines.common.draw_cache import CachingEngine
from pipeline.engines.local.prefill import PromptReader
from pipeline.engines.local.transformers import TransformersEngine
from pipeline.method.chat import PLAIN, Chat
from pipeline.method.prompts import choice_question
from pipeline.method.rewards import format_reward
from pipeline.method.thoughts import complete_thought

pytestmark = pytest.mark.slow

SYSTEM = Chat("what is this bird ?", {})
NO_THOUGHT = Chat("", {"enable_thinking": False})
LONG = replace(SAMPLER, max_new_tokens=56)


@pytest.fixture(scope="module")
def thinker(tmp_path_factory):
    return thinking_model(tmp_path_factory.mktemp("model") / "thinker")


@pytest.fixture(scope="module")
def requests(birds):
    """Four multiple-choice questions, which the field guide answers with a thought."""
    classes, images = birds
    question = choice_question("brief", "bird", classes["name"].to_list()[:4])
    rows = images.filter(split="test")["image_id", "image"].rows()[:4]
    return [Request(image_id, image, question, [GREEDY, 0, 1]) for image_id, image in rows]


def with_chat(folder, chat):
    return TransformersEngine(str(folder), "float32", "eager", 400, 100_000, 1, chat)


@pytest.fixture(scope="module")
def thinking(thinker):
    """The engine without settings."""
    return with_chat(thinker, PLAIN)


@pytest.fixture(scope="module")
def plain(base_model):
    """The same model with its own template, which leaves the tag to the model."""
    return with_chat(base_model, PLAIN)


def test_a_thought_that_the_template_opens_is_whole_in_every_draw(thinking, plain, requests):
    drawn = texts(thinking, requests, LONG)
    assert all(text.startswith("<think>") and text.count("<think>") == 1 for text in drawn.values())
    assert sum(format_reward(list(drawn.values()))) >= 9, "of 12"
    assert sum(format_reward(list(texts(plain, requests, LONG).values()))) >= 9, "tags of the model are left alone"


def test_a_setting_of_the_template_reaches_it_and_a_closed_thought_is_not_completed(thinker, requests):
    drawn = texts(with_chat(thinker, NO_THOUGHT), requests, LONG)
    assert not any("think>" in text for text in drawn.values())


def test_a_thought_that_is_cut_off_stays_open(thinking, requests):
    short = replace(SAMPLER, max_new_tokens=2)
    cut = [one for batch in thinking.draw(requests, short) for one in batch if not one.finished]
    assert cut and all(one.text.startswith("<think>") and "</think>" not in one.text for one in cut)


def test_the_system_message_is_in_the_prompt_and_changes_draws(thinker, thinking, requests):
    engine = with_chat(thinker, SYSTEM)
    assert engine.reader.prompt("Which ?").startswith(
        "<|im_start|>system what is this bird ? <|im_end|><|im_start|>user"
    )
    assert texts(engine, requests, LONG) != texts(thinking, requests, LONG)


@pytest.mark.parametrize("name", ["qwen3_5_think", "qwen3_6", "qwen3_8"])
def test_the_templates_of_families_that_think_are_known(thinking, name):
    import trl

    processor = copy(thinking.processor)
    processor.chat_template = (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text("utf-8")
    assert complete_thought("a", SYSTEM.prompt(processor, "Which ?")) == "<think>a"
    assert complete_thought("a", NO_THOUGHT.prompt(processor, "Which ?")) == "a"


def test_draws_with_and_without_settings_have_caches_of_their_own(thinker, requests, tmp_path):
    engines = [CachingEngine(with_chat(thinker, chat), tmp_path) for chat in (PLAIN, NO_THOUGHT, SYSTEM, PLAIN)]
    for engine in engines:
        texts(engine, requests[:1], SAMPLER)
    assert [engine.misses for engine in engines] == [3, 3, 3, 0]
    expected = {"engine", "transformers", "dtype", "model"}
    assert [engine.fingerprint().keys() - expected for engine in engines] == [set(), {"chat"}, {"chat"}, set()]


def test_a_setting_that_no_template_has_changes_nothing(base_model, plain, requests):
    """The processor must not take it for its own either."""
    other = Chat("", {"do_resize": False})
    assert other.kwargs_of(plain.processor) == {}
    assert texts(with_chat(base_model, other), requests[:1]) == texts(plain, requests[:1])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (REFUSAL, r"does not take chat\.system \(System role not supported\)"),
        ("{{ message['content'] + 'x' }}", r"does not take chat\.system \(can only concatenate"),
        (" ", r"leaves out the text of chat\.system"),
    ],
)
def test_a_template_without_a_place_for_a_system_message_is_one_sentence(tmp_path, requests, answer, words):
    folder = thinking_model(tmp_path / "model", answer)
    with pytest.raises(UserError, match=words) as caught:
        list(with_chat(folder, SYSTEM).draw(requests, SAMPLER))
    assert "\n" not in str(caught.value) and 'set chat.system to ""' in str(caught.value)


@pytest.mark.parametrize("chat", [PLAIN, NO_THOUGHT, SYSTEM, Chat("which ?", {"enable_thinking": False})])
def test_training_and_prediction_read_the_same_tokens(thinking, requests, chat):
    """What TRL makes of a prompt of training is what the engine makes of the same question."""
    from trl.data_utils import prepare_multimodal_messages

    from pipeline.training.examples import turns

    processor, (request, *_) = thinking.processor, requests
    prompt = turns(request.question, chat.system)
    messages = prepare_multimodal_messages(prompt, images=[picture(request.image)])
    trained_on = processor.apply_chat_template(
        [messages],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        **chat.template_kwargs,
    )
    asked = PromptReader(thinking.model, processor, 0, chat).inputs([request], [picture(request.image)])
    assert torch.equal(trained_on["input_ids"], asked["input_ids"])
