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

import numpy as np
import polars as pl
import typer
from numpy.typing import NDArray

from pipeline import params, rates, tables
from pipeline.answers import answer_text, letter
from pipeline.asking import AskParams, ClassLists, Reading, progress, require_few_errors
from pipeline.cli import run
from pipeline.engines import GREEDY, Completion, Engine, Request
from pipeline.engines.settings import EngineParams
from pipeline.options import described, ranked, shuffled, top_options
from pipeline.params import UserError
from pipeline.prompts import MAX_OPTIONS, choice_question, letters
from pipeline.votes import LOOK_EVERY, Ints, is_decided, is_settled, leaders, matrix


@dataclass(frozen=True)
class StepParams(AskParams):
    topk: int = params.key("topk", at_least=2, at_most=MAX_OPTIONS)
    mass: float = params.key("options.mass", above=0, at_most=1)
    choice_max_new_tokens: int = params.key("predict.choice_max_new_tokens", at_least=1)
    choice_repetition_penalty: float = params.key("predict.choice_repetition_penalty", above=0)


@dataclass(frozen=True)
class PredictParams(StepParams, EngineParams):
    orders: int = params.key("predict.orders", at_least=1, at_most=MAX_OPTIONS)
    val_images: int = params.key("predict.val_images", at_least=0)
    early_stop: str = params.key("predict.early_stop", one_of=("never", "order", "vote"))
    early_stop_confidence: float = params.key("predict.early_stop_confidence", above=0.5, at_most=1)

    def rule(self) -> "Stop | None":
        """When the draws of an image are enough; None where they are always K. Raises UserError."""
        if self.early_stop == "order" and self.mass < 1:
            raise UserError(
                f"params.yaml: predict.early_stop is order and options.mass is {self.mass:g}, and where a share of the "
                "votes counts every draw can change the options; switch with `dvc exp run -S predict.early_stop=never`"
            )
        if self.early_stop == "never":
            return None
        if self.early_stop == "vote":
            return lambda draws: is_decided(leaders(draws, 2)[:, -1], self.early_stop_confidence)
        return lambda draws: is_settled(leaders(draws, self.topk + 1)[:, -1], self.num_samples - draws.shape[1])


@dataclass(frozen=True)
class StepOne:
    """What step 1 found for one test image: the greedy answer, the K draws, the options in the order shown."""

    image_id: str
    image: bytes | None
    dataset: str
    class_id: int
    half: str
    greedy: Reading
    greedy_probability: float | None
    draws: list[Reading]
    options: list[dict[str, Any]]

    def turned(self, turn: int) -> list[dict[str, Any]]:
        """The options with the first `turn` of them at the end."""
        return self.options[turn:] + self.options[:turn]


# Images whose two steps follow each other, so that what was read of the pictures serves both.
BLOCK = 256


Stop = Callable[[Ints], NDArray[np.bool_]]
"""Says for which images the draws so far, (images, draws), are enough."""

Choices = dict[str, list[Completion]]
"""By image the completions of step 2: one for each order of the options, first the order that counts."""


def two_steps(
    engine: Engine,
    images: pl.DataFrame,
    lists: ClassLists,
    asked: StepParams,
    orders: int = 1,
    stop: Stop | None = None,
) -> tuple[list[StepOne], Choices]:
    """Both steps for every image: what step 1 found, and the completions of step 2, where one was asked for.

    Args:
        orders: of the options in which step 2 is asked, at most; each is turned by one place from the one before.
        stop: ends the draws of an image early; without it there are always K.
    """
    found: list[StepOne] = []
    choices: Choices = {}
    with progress("answers", images.height * (asked.num_samples + 2)) as tell:
        for block in images.iter_slices(BLOCK):
            first = step_one(engine, block, lists, asked, tell, stop)
            for turn in range(orders):
                for image_id, done in step_two(engine, first, lists, asked, turn).items():
                    choices.setdefault(image_id, []).append(done)
            tell(chosen(one, *choices.get(one.image_id, [None])[:1])[1] for one in first)
            found += first
    return found, choices


def step_one(
    engine: Engine,
    images: pl.DataFrame,
    lists: ClassLists,
    asked: StepParams,
    tell: Callable[[list[Reading]], None],
    stop: Stop | None = None,
) -> list[StepOne]:
    """One greedy answer and K draws for every image, or fewer where `stop` finds them enough."""
    truths = {row["image_id"]: row for row in images.drop("image").iter_rows(named=True)}
    readings: dict[str, dict[int, Reading]] = {image_id: {} for image_id in truths}
    probabilities: dict[str, float | None] = {}
    halves = {image_id: lists.half(truth["dataset"], truth["class_id"]) for image_id, truth in truths.items()}
    questions = {
        place: lists.question(*place, asked)
        for place in dict.fromkeys((truth["dataset"], halves[image_id]) for image_id, truth in truths.items())
    }
    wanted = [
        Request(image_id, image, questions[dataset, halves[image_id]], [GREEDY], followed=True)
        for image_id, image, dataset in images["image_id", "image", "dataset"].iter_rows()
    ]
    going, size = wanted, asked.num_samples if stop is None else LOOK_EVERY
    for start in range(0, asked.num_samples, size):
        numbers = range(start, min(start + size, asked.num_samples))
        requests = [replace(request, draws=[GREEDY] * (start == 0) + [*numbers]) for request in going]
        for batch in engine.draw(requests, asked.sampler()):
            for done in batch:
                dataset = truths[done.image_id]["dataset"]
                readings[done.image_id][done.draw] = lists.read(done, dataset, halves[done.image_id])
                if done.draw == GREEDY:
                    probabilities[done.image_id] = done.probability
            tell([readings[done.image_id][done.draw] for done in batch])
        if stop is not None and going:
            seen = pl.Series([[readings[one.image_id][n].class_id for n in range(numbers.stop)] for one in going])
            enough = stop(matrix(seen))
            going = [request for request, over in zip(going, enough, strict=True) if not over]
    found = []
    for request in wanted:
        dataset, class_id = (truths[request.image_id][name] for name in ("dataset", "class_id"))
        greedy, *draws = (reading for _, reading in sorted(readings[request.image_id].items()))
        named = [reading.class_id for reading in draws]
        order = shuffled(top_options(named, None, asked.topk, asked.mass), asked.seed, request.image_id)
        options = described(order, named, lists.names_of(dataset))
        half, sure = halves[request.image_id], probabilities[request.image_id]
        found.append(StepOne(request.image_id, request.image, dataset, class_id, half, greedy, sure, draws, options))
    return found


def step_two(
    engine: Engine, found: list[StepOne], lists: ClassLists, asked: StepParams, turn: int = 0
) -> dict[str, Completion]:
    """The greedy choice, by image, for every image with at least two options and more than `turn`."""
    questions = [
        Request(
            one.image_id,
            one.image,
            choice_question(asked.prompt, lists.noun(one.dataset), [option["name"] for option in one.turned(turn)]),
            [GREEDY],
        )
        for one in found
        if len(one.options) > max(1, turn)
    ]
    sampler = replace(
        asked.sampler(),
        max_new_tokens=asked.choice_max_new_tokens,
        repetition_penalty=asked.choice_repetition_penalty,
    )
    return {done.image_id: done for batch in engine.draw(questions, sampler) for done in batch}


def chosen(one: StepOne, choice: Completion | None, turn: int = 0) -> tuple[str | None, Reading]:
    """Letter of step 2 with the options in this order, and the reading of its completion."""
    if choice is None and one.options:
        return "A", Reading("", one.options[0]["name"], one.options[0]["class_id"], "ok", 0)
    if choice is None:
        failed = any(reading.status == "error" for reading in one.draws or [one.greedy])
        return None, Reading("", None, None, "error" if failed else "no_answer", 0)
    if choice.error is not None:
        return None, Reading(choice.error, None, None, "error", choice.tokens)
    options = one.turned(turn)
    answer, picked = answer_text(choice.text), letter(choice.text, [option["name"] for option in options])
    if picked is None:
        status = "off_list" if answer else "no_answer" if choice.finished else "truncated"
        return None, Reading(choice.text, answer, None, status, choice.tokens)
    option = options[letters(len(options)).index(picked)]
    return picked, Reading(choice.text, answer, option["class_id"], "ok", choice.tokens)


def predictions(found: list[StepOne], choices: Choices, model: str, limit: float, split: str = "test") -> pl.DataFrame:
    """Table of predictions, one row for every image. Raises UserError where too many completions failed."""
    rows, readings = [], []
    for one in found:
        done = choices.get(one.image_id, [])
        picked, choice = chosen(one, done[0] if done else None)
        others = [chosen(one, other, turn)[1] for turn, other in enumerate(done[1:], start=1)]
        votes = ranked([reading.class_id for reading in one.draws])
        readings += [one.greedy, *one.draws, choice, *others]
        rows.append(
            {
                "model": model,
                "image_id": one.image_id,
                "split": split,
                "dataset": one.dataset,
                "class_id": one.class_id,
                "half": one.half,
                "greedy_text": one.greedy.text,
                "greedy_status": one.greedy.status,
                "greedy_probability": one.greedy_probability,
                "greedy_tokens": one.greedy.tokens,
                "draws": [reading.class_id for reading in one.draws],
                "draw_statuses": [reading.status for reading in one.draws],
                "draw_texts": [reading.text for reading in one.draws],
                "draw_tokens": [reading.tokens for reading in one.draws],
                "options": one.options,
                "choice_text": choice.text if done else None,
                "choice_probability": done[0].probability if done else None,
                "choice_tokens": choice.tokens,
                "letter": picked,
                "status": choice.status,
                "turned": [other.class_id for other in others],
                "turned_tokens": [other.tokens for other in others],
                "one_step": one.greedy.class_id,
                "vote": votes[0] if votes else None,
                "two_step": choice.class_id,
            }
        )
    require_few_errors(readings, limit, "predict")
    return pl.DataFrame(rows, schema=tables.PREDICTIONS.schema)


def validation_images(images: pl.DataFrame, classes: pl.DataFrame, count: int) -> pl.DataFrame:
    """At most `count` validation images of base classes, spread over the classes: what decisions are made on."""
    base = classes.filter(split="base").select("dataset", "class_id")
    found = images.filter(split="val").join(base, on=["dataset", "class_id"]).sort("image_id")
    turn = pl.int_range(pl.len()).over("dataset", "class_id")
    return found.with_columns(_turn=turn).sort("_turn", "image_id").head(count).drop("_turn").sort("image_id")


def tested(images: Path, classes: pl.DataFrame, val_images: int) -> dict[str, pl.DataFrame]:
    """The images to answer, without their pictures: those of the test, and of validation as many as are wanted."""
    index = tables.read(tables.IMAGES, images, ["image_id", "dataset", "class_id", "split"])
    return {"test": index.filter(split="test"), "val": validation_images(index, classes, val_images)}


def answered(
    engine: Engine, images: Path, parts: dict[str, pl.DataFrame], lists: ClassLists, asked: PredictParams, model: str
) -> pl.DataFrame:
    """Table of predictions of one model, called `model`, for the images of `tested`."""
    done = []
    for split, part in parts.items():
        rows = tables.read(tables.IMAGES, images, where=pl.col("image_id").is_in(part["image_id"].implode()))
        found, choices = two_steps(engine, rows, lists, asked, asked.orders, asked.rule())
        done.append(predictions(found, choices, model, asked.max_error_rate, split))
    return pl.concat(done)


class Label(StrEnum):
    """What the tables call the two models."""

    base = "base"
    trained = "trained"


def main(
    model: Annotated[str, typer.Option(help="Model folder or hub id.")],
    label: Annotated[Label, typer.Option(help="What the table calls this model.")],
    out: Annotated[Path, typer.Option(help="Table of predictions to write.")],
    images: Annotated[Path, typer.Option(help="Table of images.")] = Path("data/images.parquet"),
    classes: Annotated[Path, typer.Option(help="Table of classes.")] = Path("data/classes.parquet"),
) -> None:
    """Answer every test image in two steps: K draws make the options, then the model chooses among them."""
    asked = params.load(PredictParams)
    class_rows = tables.read(tables.CLASSES, classes)
    engine, parts = asked.connect(model), tested(images, class_rows, asked.val_images)
    rows = answered(engine, images, parts, ClassLists(class_rows), asked, label.value)
    tables.write(tables.PREDICTIONS, rows, out)
    rates.note(images=rows.height)
    table = rows.filter(split="test")
    asked_twice = table["choice_text"].is_not_null().sum()
    right = (table["two_step"] == table["class_id"]).sum() / max(1, table.height)
    print(
        f"{label}: {table.height} test images, {asked_twice} with a choice ({engine.counts()}), "
        f"{right:.1%} right in two steps"
    )


if __name__ == "__main__":
    run(main, PredictParams)
