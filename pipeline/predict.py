"""Answer every test image in two steps: K draws make the options, then the model chooses among them.

Departures from the paper:
1. A single option is the answer: no question is asked.
2. An answer that cannot be read is a wrong answer with a status; no image leaves the table.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from pipeline import params, tables
from pipeline.answers import answer_text, letter
from pipeline.asking import AskParams, ClassLists, Reading, progress, require_few_errors
from pipeline.cli import run
from pipeline.engines import GREEDY, Completion, Engine, Request
from pipeline.engines.settings import EngineParams
from pipeline.options import described, ranked, shuffled, top_options
from pipeline.prompts import MAX_OPTIONS, choice_question, letters


@dataclass(frozen=True)
class StepParams(AskParams):
    topk: int = params.key("topk", at_least=2, at_most=MAX_OPTIONS)
    choice_max_new_tokens: int = params.key("predict.choice_max_new_tokens", at_least=1)
    choice_repetition_penalty: float = params.key("predict.choice_repetition_penalty", above=0)


@dataclass(frozen=True)
class PredictParams(StepParams, EngineParams):
    pass


@dataclass(frozen=True)
class StepOne:
    """What step 1 found for one test image: the greedy answer, the K draws, the options in the order shown."""

    image_id: str
    image: bytes
    dataset: str
    class_id: int
    half: str
    greedy: Reading
    draws: list[Reading]
    options: list[dict[str, Any]]

    @property
    def names(self) -> list[str]:
        return [option["name"] for option in self.options]


# Images whose two steps follow each other, so that what was read of the pictures serves both.
BLOCK = 256


def two_steps(
    engine: Engine, images: pl.DataFrame, lists: ClassLists, asked: StepParams
) -> tuple[list[StepOne], dict[str, Completion]]:
    """Both steps for every image: what step 1 found, and the completion of step 2, where one was asked for."""
    found: list[StepOne] = []
    choices: dict[str, Completion] = {}
    with progress("answers", images.height * (asked.num_samples + 2)) as tell:
        for block in images.iter_slices(BLOCK):
            first = step_one(engine, block, lists, asked, tell)
            second = step_two(engine, first, lists, asked)
            tell(chosen(one, second.get(one.image_id))[1] for one in first)
            found += first
            choices |= second
    return found, choices


def step_one(
    engine: Engine, images: pl.DataFrame, lists: ClassLists, asked: StepParams, tell: Callable[[list[Reading]], None]
) -> list[StepOne]:
    """One greedy answer and K draws for every image."""
    numbers = [GREEDY, *range(asked.num_samples)]
    truths = {row["image_id"]: row for row in images.drop("image").iter_rows(named=True)}
    readings: dict[str, dict[int, Reading]] = {image_id: {} for image_id in truths}
    halves = {image_id: lists.half(truth["dataset"], truth["class_id"]) for image_id, truth in truths.items()}
    questions = {
        place: lists.question(*place, asked)
        for place in dict.fromkeys((truth["dataset"], halves[image_id]) for image_id, truth in truths.items())
    }
    wanted = [
        Request(image_id, image, questions[dataset, halves[image_id]], numbers, followed=True)
        for image_id, image, dataset in images["image_id", "image", "dataset"].iter_rows()
    ]
    for batch in engine.draw(wanted, asked.sampler()):
        for done in batch:
            dataset = truths[done.image_id]["dataset"]
            readings[done.image_id][done.draw] = lists.read(done, dataset, halves[done.image_id])
        tell([readings[done.image_id][done.draw] for done in batch])
    found = []
    for request in wanted:
        dataset, class_id = (truths[request.image_id][name] for name in ("dataset", "class_id"))
        greedy, *draws = (readings[request.image_id][number] for number in numbers)
        named = [reading.class_id for reading in draws]
        order = shuffled(top_options(named, None, asked.topk), asked.seed, request.image_id)
        options = described(order, named, lists.names_of(dataset))
        half = halves[request.image_id]
        found.append(StepOne(request.image_id, request.image, dataset, class_id, half, greedy, draws, options))
    return found


def step_two(engine: Engine, found: list[StepOne], lists: ClassLists, asked: StepParams) -> dict[str, Completion]:
    """The greedy choice for every image with at least two options, by image."""
    questions = [
        Request(one.image_id, one.image, choice_question(asked.prompt, lists.noun(one.dataset), one.names), [GREEDY])
        for one in found
        if len(one.options) > 1
    ]
    sampler = replace(
        asked.sampler(),
        max_new_tokens=asked.choice_max_new_tokens,
        repetition_penalty=asked.choice_repetition_penalty,
    )
    return {done.image_id: done for batch in engine.draw(questions, sampler) for done in batch}


def chosen(one: StepOne, choice: Completion | None) -> tuple[str | None, Reading]:
    """Letter of step 2, and the reading of its completion."""
    if choice is None and one.options:
        return "A", Reading("", one.options[0]["name"], one.options[0]["class_id"], "ok", 0)
    if choice is None:
        failed = any(reading.status == "error" for reading in one.draws)
        return None, Reading("", None, None, "error" if failed else "no_answer", 0)
    if choice.error is not None:
        return None, Reading(choice.error, None, None, "error", choice.tokens)
    answer, picked = answer_text(choice.text), letter(choice.text, one.names)
    if picked is None:
        status = "off_list" if answer else "no_answer" if choice.finished else "truncated"
        return None, Reading(choice.text, answer, None, status, choice.tokens)
    option = one.options[letters(len(one.options)).index(picked)]
    return picked, Reading(choice.text, answer, option["class_id"], "ok", choice.tokens)


def predictions(found: list[StepOne], choices: dict[str, Completion], model: str, limit: float) -> pl.DataFrame:
    """Table of predictions, one row for every image. Raises UserError where too many completions failed."""
    rows, readings = [], []
    for one in found:
        picked, choice = chosen(one, choices.get(one.image_id))
        votes = ranked([reading.class_id for reading in one.draws])
        readings += [one.greedy, *one.draws, choice]
        rows.append(
            {
                "model": model,
                "image_id": one.image_id,
                "dataset": one.dataset,
                "class_id": one.class_id,
                "half": one.half,
                "greedy_text": one.greedy.text,
                "greedy_status": one.greedy.status,
                "draws": [reading.class_id for reading in one.draws],
                "draw_statuses": [reading.status for reading in one.draws],
                "draw_texts": [reading.text for reading in one.draws],
                "options": one.options,
                "choice_text": choice.text if one.image_id in choices else None,
                "letter": picked,
                "status": choice.status,
                "one_step": one.greedy.class_id,
                "vote": votes[0] if votes else None,
                "two_step": choice.class_id,
            }
        )
    require_few_errors(readings, limit, "predict")
    return pl.DataFrame(rows, schema=tables.PREDICTIONS.schema)


class Label(StrEnum):
    """What the tables call the two models."""

    base = "base"
    trained = "trained"


class Split(StrEnum):
    """Images to answer: test for results, val for decisions."""

    val = "val"
    test = "test"


def main(
    model: Annotated[str, typer.Option(help="Model folder or hub id.")],
    label: Annotated[Label, typer.Option(help="What the table calls this model.")],
    out: Annotated[Path, typer.Option(help="Table of predictions to write.")],
    split: Annotated[Split, typer.Option(help="Images to answer: test for results, val for decisions.")] = Split.test,
    images: Annotated[Path, typer.Option(help="Table of images.")] = Path("data/images.parquet"),
    classes: Annotated[Path, typer.Option(help="Table of classes.")] = Path("data/classes.parquet"),
) -> None:
    """Answer every test image in two steps: K draws make the options, then the model chooses among them."""
    asked = params.load(PredictParams)
    chosen_images = tables.read(tables.IMAGES, images, where=pl.col("split") == split.value)
    class_rows = tables.read(tables.CLASSES, classes)
    engine = asked.connect(model)
    found, choices = two_steps(engine, chosen_images, ClassLists(class_rows), asked)
    table = predictions(found, choices, label.value, asked.max_error_rate)
    tables.write(tables.PREDICTIONS, table, out)
    asked_twice = table["choice_text"].is_not_null().sum()
    right = (table["two_step"] == table["class_id"]).sum() / table.height
    print(
        f"{label}: {table.height} {split} images, {asked_twice} with a choice ({engine.counts()}), "
        f"{right:.1%} right in two steps"
    )


if __name__ == "__main__":
    run(main)
