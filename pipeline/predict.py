"""Answer every test image in two steps: K draws make the options, then the model chooses among them.

Departures from the paper:
1. A single option is the answer: no question is asked.
2. An answer that cannot be read is a wrong answer with a status; no image leaves the table.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from pipeline import params, tables
from pipeline.answers import letter
from pipeline.asking import AskParams, ClassLists, Reading, requests, require_few_errors, with_progress
from pipeline.cli import run
from pipeline.engines import GREEDY, Completion, Engine, Request
from pipeline.options import described, ranked, shuffled, top_options
from pipeline.prompts import MAX_OPTIONS, choice_question, letters


@dataclass(frozen=True)
class PredictParams(AskParams):
    topk: int = params.key("topk", at_least=2, at_most=MAX_OPTIONS)
    choice_max_new_tokens: int = params.key("predict.choice_max_new_tokens", at_least=1)


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
    sampler = replace(asked.sampler(), temperature=GREEDY, max_new_tokens=asked.choice_max_new_tokens)
    return {done[0].image_id: done[0] for done in _grouped(engine, questions, 1, sampler, "choices").values()}


def chosen(one: StepOne, choice: Completion | None) -> tuple[str | None, str | None, str, int | None]:
    """Text, letter, status and class of step 2."""
    if choice is None:
        if not one.options:
            return None, None, "no_answer", None
        return None, "A", "ok", one.options[0]["class_id"]
    if choice.error is not None:
        return choice.error, None, "error", None
    picked = letter(choice.text, one.names)
    if picked is None:
        return choice.text, None, "no_answer" if choice.finished else "truncated", None
    index = letters(len(one.options)).index(picked)
    return choice.text, picked, "ok", one.options[index]["class_id"]


def rows(found: list[StepOne], choices: dict[str, Completion], model: str) -> Iterator[dict[str, Any]]:
    """Rows of the table of predictions."""
    for one in found:
        text, picked, status, two_step = chosen(one, choices.get(one.image_id))
        votes = ranked([reading.class_id for reading in one.draws])
        yield {
            "model": model,
            "image_id": one.image_id,
            "dataset": one.dataset,
            "class_id": one.class_id,
            "half": one.half,
            "greedy_text": one.greedy.text,
            "greedy_status": one.greedy.status,
            "draws": [reading.class_id for reading in one.draws],
            "draw_texts": [reading.text for reading in one.draws],
            "options": one.options,
            "choice_text": text,
            "letter": picked,
            "status": status,
            "one_step": one.greedy.class_id,
            "vote": votes[0] if votes else None,
            "two_step": two_step,
        }


def main(
    model: Annotated[str, typer.Option(help="Model folder or hub id.")],
    label: Annotated[str, typer.Option(help="What the table calls this model: base or trained.")],
    out: Annotated[Path, typer.Option(help="Table of predictions to write.")],
    images: Annotated[Path, typer.Option(help="Table of images.")] = Path("data/images.parquet"),
    classes: Annotated[Path, typer.Option(help="Table of classes.")] = Path("data/classes.parquet"),
) -> None:
    """Answer every test image in two steps: K draws make the options, then the model chooses among them."""
    asked = params.load(PredictParams)
    test = tables.read(tables.IMAGES, images).filter(pl.col("split") == "test")
    engine = asked.connect(model)
    found = step_one(engine, test, ClassLists(tables.read(tables.CLASSES, classes)), asked)
    predictions = pl.DataFrame(
        list(rows(found, step_two(engine, found, asked), label)), schema=tables.PREDICTIONS.schema
    )
    require_few_errors(predictions["status"], asked.max_error_rate, "predict")
    tables.write(tables.PREDICTIONS, predictions, out)
    asked_twice = predictions["choice_text"].is_not_null().sum()
    right = (predictions["two_step"] == predictions["class_id"]).sum() / test.height
    print(f"{label}: {test.height} test images, {asked_twice} with a choice to make, {right:.1%} right in two steps")


if __name__ == "__main__":
    run(main)
