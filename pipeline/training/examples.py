"""What is learned from: the hard questions as TRL reads them, for each method."""

from typing import Any

import polars as pl

from pipeline.core.params import UserError
from pipeline.method.class_lists import ClassLists
from pipeline.method.prompts import chat, choice_question, supervised_answer
from pipeline.training.params import TrainParams


def examples(rows: pl.DataFrame, lists: ClassLists, wanted: TrainParams) -> Any:
    """One example a question.

    Args:
        rows: hard questions with the column image.

    Returns:
        A data set with prompt (a chat), picture (bytes) and image (opened when it is asked for), image_id, and what the
        rewards read: answer (the right letter), options (names), dataset, class_id and name of the truth.
        For sft prompt, completion and image.
    """
    import datasets

    if wanted.method == "divek":
        offered = [[option["name"] for option in options] for options in rows["options"]]
        nouns = [lists.noun(dataset) for dataset in rows["dataset"]]
        asked = [choice_question(wanted.prompt, noun, names) for noun, names in zip(nouns, offered, strict=True)]
    else:
        offered = [[] for _ in range(rows.height)]
        asked = [wanted.question(lists, dataset, "base") for dataset in rows["dataset"]]
    truths = [lists.names_of(dataset)[class_id] for dataset, class_id in rows["dataset", "class_id"].iter_rows()]
    columns = {
        # TRL places the image itself, in front of the text, where the content is plain text.
        "prompt": [[{"role": "user", "content": question}] for question in asked],
        "picture": rows["image"].to_list(),
        "image_id": rows["image_id"].to_list(),
    }
    if wanted.method == "sft":
        said = [supervised_answer(wanted.prompt, name) for name in truths]
        columns["completion"] = [[{"role": "assistant", "content": text}] for text in said]
    else:
        columns |= {
            "answer": rows["answer"].to_list(),
            "options": offered,
            "dataset": rows["dataset"].to_list(),
            "class_id": rows["class_id"].to_list(),
            "name": truths,
        }
    return datasets.Dataset.from_dict(columns).with_transform(opened)


def opened(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """A batch with its pictures opened."""
    from pipeline.core.pictures import picture

    return batch | {"image": [picture(image) for image in batch["picture"]]}


def require_room(found: Any, processor: Any, model: Any, wanted: TrainParams) -> None:
    """Raises UserError where a prompt and its completion do not fit the model: none is ever cut off."""
    from pipeline.core.pictures import size

    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not limit:
        return
    texts: dict[str, int] = {}
    pictures: dict[tuple[int, int], int] = {}
    plain = found.with_format(None)
    for image_id, prompt, image in zip(plain["image_id"], plain["prompt"], plain["picture"], strict=True):
        question, pixels = prompt[-1]["content"], size(image)
        if question not in texts:
            text = processor.apply_chat_template(chat(question), add_generation_prompt=True, tokenize=False)
            texts[question] = len(processor.tokenizer(text, add_special_tokens=False)["input_ids"])
        if pixels not in pictures:
            pictures[pixels] = processor._get_num_multimodal_tokens(image_sizes=[pixels])["num_image_tokens"][0]
        length = texts[question] + pictures[pixels]
        if length + wanted.max_completion_length > limit:
            raise UserError(
                f"data/hard.parquet: the prompt of image {image_id} has {length} tokens, and with "
                f"train.max_completion_length = {wanted.max_completion_length} more than the model's {limit}; "
                "set data.max_pixels or train.max_completion_length lower"
            )
