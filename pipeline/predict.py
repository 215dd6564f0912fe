"""Answer every test image in two steps: K draws make the options, then the model chooses among them.

Departures from the paper:
1. A single option is the answer: no question is asked.
2. An answer that cannot be read is a wrong answer with a status; no image leaves the table.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from pipeline import params, tables
from pipeline.answers import answer_text, letter
from pipeline.asking import AskParams, ClassLists, Reading, requests, require_few_errors, with_progress
from pipeline.cli import run
from pipeline.engines import GREEDY, Completion, Engine, Request
from pipeline.options import described, ranked, shuffled, top_options
from pipeline.prompts import MAX_OPTIONS, choice_question, letters


@dataclass(frozen=True)
class PredictParams(AskParams):
    topk: int = params.key("topk", at_least=2, at_most=MAX_OPTIONS)
    choice_max_new_tokens: int = params.key("predict.choice_max_new_tokens", at_least=1)
    choice_repetition_penalty: float = params.key("predict.choice_repetition_penalty", above=0)


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


def step_one(engine: Engine, images: pl.DataFrame, lists: ClassLists, asked: PredictParams) -> list[StepOne]:
    """K draws and one greedy answer for every image."""
    wanted = requests(images, asked)
    greedy = _grouped(engine, wanted, 1, replace(asked.sampler(), temperature=GREEDY), "greedy answers")
    drawn = _grouped(engine, wanted, asked.num_samples, asked.sampler(), "draws")
    found = []
    for request, dataset, class_id in zip(wanted, images["dataset"], images["class_id"], strict=True):
        half = lists.half(dataset, class_id)
        draws = [lists.read(done, dataset, half) for done in drawn[request.image_id]]
        named = [reading.class_id for reading in draws]
        order = shuffled(top_options(named, None, asked.topk), asked.seed, request.image_id)
        options = described(order, named, lists.names_of(dataset))
        first = lists.read(greedy[request.image_id][0], dataset, half)
        found.append(StepOne(request.image_id, request.image, dataset, class_id, half, first, draws, options))
    return found


def _grouped(engine: Engine, wanted: list[Request], count: int, sampler: Any, what: str) -> dict[str, list[Completion]]:
    groups: dict[str, list[Completion]] = {request.image_id: [] for request in wanted}
    for batch in with_progress(engine.draw(wanted, count, sampler), len(wanted) * count, what):
        for done in batch:
            groups[done.image_id].append(done)
    return groups


def step_two(engine: Engine, found: list[StepOne], asked: PredictParams) -> dict[str, Completion]:
    """The greedy choice for every image with at least two options, by image."""
    questions = [
        Request(one.image_id, one.image, choice_question(asked.prompt, asked.noun, one.names))
        for one in found
        if len(one.options) > 1
    ]
    sampler = replace(
        asked.sampler(),
        temperature=GREEDY,
        max_new_tokens=asked.choice_max_new_tokens,
        repetition_penalty=asked.choice_repetition_penalty,
    )
    return {done[0].image_id: done[0] for done in _grouped(engine, questions, 1, sampler, "choices").values()}


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
    chosen_images = tables.read(tables.IMAGES, images).filter(pl.col("split") == split.value)
    class_rows = tables.read(tables.CLASSES, classes)
    engine = asked.connect(model)
    found = step_one(engine, chosen_images, ClassLists(class_rows), asked)
    table = predictions(found, step_two(engine, found, asked), label.value, asked.max_error_rate)
    tables.write(tables.PREDICTIONS, table, out)
    asked_twice = table["choice_text"].is_not_null().sum()
    right = (table["two_step"] == table["class_id"]).sum() / table.height
    print(f"{label}: {table.height} {split} images, {asked_twice} with a choice, {right:.1%} right in two steps")


if __name__ == "__main__":
    run(main)
