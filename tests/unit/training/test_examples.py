"""The training data: enough questions for a step, and room for the longest of them."""

from dataclasses import replace
from types import SimpleNamespace

import polars as pl
import pytest
from support.families import noise
from support.training import DEFAULTS, LISTS, question, questions

from pipeline.core.params import UserError
from pipeline.core.pictures import picture
from pipeline.engines.common.loading import load_processor
from pipeline.training.examples import examples, require_enough, require_room


def test_fewer_questions_than_a_step_needs_are_refused():
    rows = questions(question(0, 0, 1))
    with pytest.raises(UserError, match=r"1 question cannot fill a step of train\.prompts_per_step = 16"):
        require_enough(rows, DEFAULTS)
    require_enough(rows, replace(DEFAULTS, prompts_per_step=1))


@pytest.mark.slow
def test_the_room_is_that_of_the_longest_question_and_its_answer(base_model):
    processor = load_processor(base_model)
    rows = questions(question(0, 0, 1), question(0, 0, 1, 2, image="y")).with_columns(
        pl.Series("image", [noise(0), noise(1)])
    )
    dataset = examples(rows, LISTS, DEFAULTS)
    lengths = [
        len(
            processor(text=[DEFAULTS.chat.prompt(processor, prompt[-1]["content"])], images=[picture(image)])[
                "input_ids"
            ][0]
        )
        for prompt, image in zip(dataset.with_format(None)["prompt"], rows["image"], strict=True)
    ]
    limits = SimpleNamespace(max_position_embeddings=512)
    model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: limits))
    room = require_room(dataset, processor, model, replace(DEFAULTS, max_completion_length=8))
    assert lengths[1] > lengths[0] and lengths[1] + 8 <= room <= lengths[1] + 10, "counted nearly exactly"
    limits.max_position_embeddings = room - 1
    with pytest.raises(UserError, match="the prompt of image y has"):
        require_room(dataset, processor, model, replace(DEFAULTS, max_completion_length=8))
