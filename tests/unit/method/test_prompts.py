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
from pipeline.method.prompts import STYLES, choice_question, letters, open_question
from pipeline.training.examples import examples
from pipeline.training.params import TrainParams
from pipeline.training.rounds import with_pictures


def test_questions_as_they_are_asked():
    assert open_question("brief", "bird") == "Which bird is this ?"
    assert choice_question("brief", "bird", ["a b", "c d"]) == "Which bird is this ?\nA. a b\nB. c d"
    for style in STYLES:
        assert "{" not in choice_question(style, "car", ["one", "two"]) + open_question(style, "car")


@pytest.mark.parametrize("count", [0, 27])
def test_as_many_options_as_letters(count):
    with pytest.raises(ValueError, match="letters"):
        letters(count)


def test_class_names_are_shown_in_front_where_they_are_wanted():
    assert open_question("brief", "bird", ["a b", "c d"]) == "a b, c d\nWhich bird is this ?"
    assert open_question("paper", "car", ["x", "y"]).startswith(
        "These are the kinds of car that it can be: x, y.\nThis"
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
