"""The training examples: the hard questions as TRL reads them, for each method."""

from math import inf
from typing import Any

import polars as pl

from pipeline.core.params import UserError
from pipeline.core.words import counted
from pipeline.engines.common.prompt_lengths import PromptLengths
from pipeline.method.class_lists import ClassLists
from pipeline.method.prompts import choice_question, supervised_answer
from pipeline.training.params import TrainParams


def examples(rows: pl.DataFrame, lists: ClassLists, params: TrainParams) -> Any:
    """One example a question.

    Args:
        rows: hard questions with the column image.

    Returns:
        A data set with prompt (a chat), picture (bytes) and image (decoded on access), image_id, and what the
        rewards read: answer (the right letter), options (names), dataset, class_id and name of the truth.
        For sft prompt, completion and image, and the settings of the chat template, which TRL takes from there.
    """
    import datasets

    if params.method == "divek":
        options = [[option["name"] for option in options] for options in rows["options"]]
        nouns = [lists.noun(dataset) for dataset in rows["dataset"]]
        prompts = [choice_question(params.prompt, noun, names) for noun, names in zip(nouns, options, strict=True)]
    else:
        options = [[] for _ in range(rows.height)]
        prompts = [params.question(lists, dataset, "base") for dataset in rows["dataset"]]
    truths = [lists.names_of(dataset)[class_id] for dataset, class_id in rows["dataset", "class_id"].iter_rows()]
    columns = {
        "prompt": [turns(question, params.system) for question in prompts],
        "picture": rows["image"].to_list(),
        "image_id": rows["image_id"].to_list(),
    }
    if params.method == "sft":
        targets = [supervised_answer(params.prompt, name) for name in truths]
        columns["completion"] = [[{"role": "assistant", "content": text}] for text in targets]
        if params.template_kwargs:
            columns["chat_template_kwargs"] = [params.template_kwargs] * rows.height
    else:
        columns |= {
            "answer": rows["answer"].to_list(),
            "options": options,
            "dataset": rows["dataset"].to_list(),
            "class_id": rows["class_id"].to_list(),
            "name": truths,
        }
    return datasets.Dataset.from_dict(columns).with_transform(open_pictures)


def turns(question: str, system: str) -> list[dict[str, str]]:
    """The chat before the answer. TRL adds the image itself, in front of the question, if contents are plain text."""
    before = [{"role": "system", "content": system}] if system else []
    return [*before, {"role": "user", "content": question}]


def open_pictures(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """A batch with its pictures decoded."""
    from pipeline.core.pictures import picture

    return batch | {"image": [picture(image) for image in batch["picture"]]}


def require_room(dataset: Any, processor: Any, model: Any, params: TrainParams) -> int:
    """The tokens of the longest prompt and its completion; no prompt is ever truncated.

    Raises:
        UserError: they are too long for the model.
    """
    from pipeline.core.pictures import size

    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None) or inf
    lengths = PromptLengths(processor, params.chat)
    plain = dataset.with_format(None)
    longest = 0
    for image_id, prompt, image in zip(plain["image_id"], plain["prompt"], plain["picture"], strict=True):
        length = lengths(prompt[-1]["content"], size(image))
        longest = max(longest, length + params.max_completion_length)
        if longest > limit:
            raise UserError(
                f"data/hard.parquet: the prompt of image {image_id} has {length} tokens, which with "
                f"train.max_completion_length = {params.max_completion_length} exceeds the model's limit of {limit}; "
                "set data.max_pixels or train.max_completion_length lower"
            )
    return longest


def require_enough(rows: pl.DataFrame, params: TrainParams) -> None:
    """Raises UserError if the questions do not fill a step."""
    if rows.height < params.prompts_per_step:
        raise UserError(
            f"data/hard.parquet: {counted(rows.height, 'question')} cannot fill a step of train.prompts_per_step = "
            f"{params.prompts_per_step}; set `dvc exp run -S train.prompts_per_step={rows.height}` or fewer"
        )
