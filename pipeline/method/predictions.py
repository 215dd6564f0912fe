"""The table of predictions: both steps of every test image, and of the validation images that decisions are made on."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipeline.core import tables
from pipeline.core.engine import Engine
from pipeline.core.params import UserError, key
from pipeline.method.class_lists import ClassLists
from pipeline.method.early_stop import RULES, Stop, stop_rule
from pipeline.method.failures import require_few_errors
from pipeline.method.image_sets import validation_images
from pipeline.method.prompts import MAX_OPTIONS
from pipeline.method.two_steps import Choices, StepOne, TwoStepParams, parse_choice, two_steps
from pipeline.method.votes import NONE, Ints, matrix, ranking

UNION = "_union"
"""Ends the name of a model in reports where its answers have all classes of the data set as labels."""


@dataclass(frozen=True)
class PredictionParams(TwoStepParams):
    """How a model answers test images."""

    orders: int = key("predict.orders", at_least=1, at_most=MAX_OPTIONS)
    val_images: int = key("predict.val_images", at_least=0)
    early_stop: str = key("predict.early_stop", one_of=RULES)
    early_stop_confidence: float = key("predict.early_stop_confidence", above=0.5, at_most=1)
    union: bool = key("predict.union")
    choice_prefix: str = key("predict.choice_prefix", or_empty=True)

    def stop_rule(self) -> Stop | None:
        """When the draws of an image are enough; None where they are always K. Raises UserError."""
        if self.early_stop == "order" and self.mass < 1:
            raise UserError(
                f"params.yaml: predict.early_stop is order, which cannot be combined with options.mass = "
                f"{self.mass:g}: where a share of the votes counts, every draw can change the options; set "
                "`dvc exp run -S predict.early_stop=never`"
            )
        return stop_rule(self.early_stop, self.early_stop_confidence, self.topk, self.num_samples)


def images_to_answer(images: Path, classes: pl.DataFrame, val_images: int) -> dict[str, pl.DataFrame]:
    """By split the rows of the table of images to answer, without pictures: all of the test, at most so many of val."""
    index = tables.read(tables.IMAGES, images, ["image_id", "dataset", "class_id", "split"])
    return {"test": index.filter(split="test"), "val": validation_images(index, classes, val_images)}


def predict(
    engine: Engine,
    images: Path,
    index: dict[str, pl.DataFrame],
    lists: ClassLists,
    params: PredictionParams,
    model: str,
) -> pl.DataFrame:
    """The table of predictions of one model, called `model`, for the rows of `images_to_answer`.

    Raises:
        UserError: more than `max_error_rate` of the completions failed.
    """
    parts = []
    for split, rows in index.items():
        pictures = tables.read_images(images, rows["image_id"])
        steps, choices = two_steps(
            engine, pictures, lists, params, params.orders, params.stop_rule(), params.choice_prefix
        )
        parts.append(prediction_table(steps, choices, model, params.max_error_rate, split))
    return pl.concat(parts)


def prediction_table(
    steps: list[StepOne], choices: Choices, model: str, max_error_rate: float, split: str = "test"
) -> pl.DataFrame:
    """The table of predictions, one row for every image.

    Raises:
        UserError: more than `max_error_rate` of the completions failed.
    """
    votes = _votes(steps)
    rows, answers = [], []
    for step, vote in zip(steps, votes, strict=True):
        completions = choices.get(step.image_id, [])
        letter, choice = parse_choice(step, completions[0] if completions else None)
        rotated = [parse_choice(step, other, place)[1] for place, other in enumerate(completions[1:], start=1)]
        answers += [step.greedy, *step.draws, choice, *rotated]
        rows.append(
            {
                "model": model,
                "image_id": step.image_id,
                "split": split,
                "dataset": step.dataset,
                "class_id": step.class_id,
                "subset": step.subset,
                "greedy_text": step.greedy.text,
                "greedy_status": step.greedy.status,
                "greedy_probability": step.greedy.probability,
                "greedy_tokens": step.greedy.tokens,
                "draws": [answer.class_id for answer in step.draws],
                "draw_statuses": [answer.status for answer in step.draws],
                "draw_texts": [answer.text for answer in step.draws],
                "draw_tokens": [answer.tokens for answer in step.draws],
                "options": step.options,
                "choice_text": choice.text if completions else None,
                "choice_probability": completions[0].probability if completions else None,
                "choice_tokens": choice.tokens,
                "letter": letter,
                "status": choice.status,
                "rotated": [answer.class_id for answer in rotated],
                "rotated_tokens": [answer.tokens for answer in rotated],
                "one_step": step.greedy.class_id,
                "vote": None if vote == NONE else int(vote),
                "two_step": choice.class_id,
            }
        )
    require_few_errors(answers, max_error_rate, "predict")
    return pl.DataFrame(rows, schema=tables.PREDICTIONS.schema)


def _votes(steps: list[StepOne]) -> Ints:
    """(images,): the class with the most votes, NONE where none was named."""
    ids = [[answer.class_id for answer in step.draws] for step in steps]
    draws = matrix(pl.Series(ids, dtype=pl.List(pl.Int64)))
    return ranking(draws)[0][:, 0] if len(draws) else draws[:, 0]
