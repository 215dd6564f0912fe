"""One prompt source: training, sampling and prediction show the model the very same tokens and pixels."""

import polars as pl
import pytest
import torch

from pipeline.core import tables
from pipeline.core.engine import Request
from pipeline.core.params import load_params
from pipeline.core.pictures import picture
from pipeline.engines.local.transformers import TransformersEngine
from pipeline.method.class_lists import ClassLists
from pipeline.method.prompts import choice_question, letters, open_question
from pipeline.method.styles import STYLES
from pipeline.training.examples import examples
from pipeline.training.params import TrainParams
from pipeline.training.rounds import with_pictures

pytestmark = pytest.mark.slow

FORM = (
    "Write your thinking between <think> and </think> and your final answer between <answer> and </answer>. "
    "Keep exactly to this form:\n<think> ... </think> "
)
RENDERED = {
    "brief": ("Which car is this ?", "Which car is this ?\nA. a b\nB. c d"),
    "paper": (
        f"The image contains one car. Identify the make and model of the car.\n{FORM}<answer>make and model</answer>",
        "The image contains one car. Which of these options is the most likely car in the image?\nA. a b\nB. c d\n"
        f"Answer with the letter of the right car.\n{FORM}<answer>letter</answer>",
    ),
    "comparison": (
        "This is an image containing a car. Please identify the car in the image as precisely as you can.\n"
        "Think about the marks that tell similar kinds apart inside <think> </think> tags, then give the name "
        "alone inside <answer> </answer> tags.",
        "This is an image containing a car. Please find the most likely car in the image from the below options:\n"
        "A. a b\nB. c d\nCompare the options with the image inside <think> </think> tags, then give the letter of "
        "your choice alone inside <answer> </answer> tags.",
    ),
    "answer_only": (
        "The image contains one car. Identify the make and model of the car.\nReply with your final answer alone. Keep "
        "exactly to this form:\n<answer>make and model</answer>",
        "The image contains one car. Which of these options is the most likely car in the image?\nA. a b\nB. c d\n"
        "Reply with the letter of the right car alone. Keep exactly to this form:\n<answer>letter</answer>",
    ),
}
RENDERED["brief_answer_only"] = RENDERED["brief"]


@pytest.mark.parametrize("style", RENDERED)
def test_the_questions_word_for_word(style):
    assert (open_question(style, "car"), choice_question(style, "car", ["a b", "c d"])) == RENDERED[style]


def test_every_style_has_its_words_above():
    assert set(STYLES) == set(RENDERED)


def test_the_papers_style_asks_for_no_comparison():
    """The published requests name the image, what to identify and the form of the reply; they coach nothing."""
    words = RENDERED["paper"][0] + RENDERED["paper"][1]
    assert not any(word in words.lower() for word in ("compar", "mark", "similar", "precise", "step by step", "detail"))


@pytest.mark.parametrize(
    ("noun", "category"), [("bird", "species"), ("pet", "species"), ("aircraft", "make and model"), ("teapot", "kind")]
)
def test_what_is_identified_depends_on_what_the_images_show(noun, category):
    assert f"Identify the {category} of the {noun}." in open_question("paper", noun)


@pytest.mark.parametrize("count", [0, 27])
def test_as_many_options_as_letters(count):
    with pytest.raises(ValueError, match="letters"):
        letters(count)


def test_class_names_are_shown_in_front_where_they_are_wanted():
    assert open_question("brief", "bird", ["a b", "c d"]) == "a b, c d\nWhich bird is this ?"
    assert open_question("paper", "car", ["x", "y"]).startswith(
        "The make and model of the car is one of this list: x, y.\nThe image contains one car."
    )


def test_a_name_with_braces_stays_as_it_is():
    assert choice_question("brief", "bird", ["{noun}", "{0}"]).endswith("A. {noun}\nB. {0}")


def test_training_and_prediction_read_the_same_tokens_and_pixels(birds, base_model):
    """What TRL makes of a training row is what the engine makes of the same question."""
    from trl.data_utils import prepare_multimodal_messages

    classes, images = birds
    image = images.filter(split="train").head(1)
    names = classes["name"].to_list()[:3]
    option = {"votes": 1, "rank": 1, "source": "draws"}
    question = {
        "image_id": image["image_id"].item(),
        "dataset": "fieldguide",
        "class_id": 0,
        "options": [option | {"class_id": i, "name": name} for i, name in enumerate(names)],
        "answer": "A",
        "truth_rank": 1,
        "truth_votes": 1,
        "valid_draws": 3,
        "distinct": 3,
    }
    wanted = load_params(TrainParams)
    row = examples(
        with_pictures(pl.DataFrame([question], schema=tables.HARD.schema), image), ClassLists(classes), wanted
    )[0]
    engine = TransformersEngine(base_model, "float32", "eager", max_rows=4, max_tokens=1000, threads=2)
    messages = prepare_multimodal_messages(row["prompt"], images=[row["image"]])
    trained_on = engine.processor.apply_chat_template(
        [messages], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", padding=True
    )
    request = Request("x", image["image"].item(), choice_question(wanted.prompt, "bird", names), [0])
    asked = engine.reader.inputs([request], [picture(request.image)])
    assert torch.equal(trained_on["input_ids"], asked["input_ids"])
    assert torch.equal(trained_on["pixel_values"], asked["pixel_values"])
    assert engine.processor.tokenizer.unk_token_id not in asked["input_ids"], "the model knows every word"
    width, height = picture(request.image).size
    tokens = (asked["input_ids"] == engine.processor.image_token_id).sum().item()
    assert tokens == (width // 28) * (height // 28)
