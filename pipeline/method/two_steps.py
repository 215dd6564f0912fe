"""Inference in two steps: K draws make the options, then the model chooses among them. No truth is inserted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from pipeline.core.engine import GREEDY, Completion, Engine, Request, Sampler
from pipeline.core.params import key
from pipeline.method.answers import answer_text, letter
from pipeline.method.class_lists import ClassLists, ParsedAnswer
from pipeline.method.early_stop import LOOK_EVERY, Stop
from pipeline.method.failures import FailureLimit
from pipeline.method.options import own_options
from pipeline.method.progress import draws_bar
from pipeline.method.prompts import MAX_OPTIONS, choice_question, letters
from pipeline.method.sampling import Advance, SamplingParams, draw_and_parse
from pipeline.method.votes import Ints, matrix

BLOCK = 256  # images whose two steps follow each other, so that what was read of the pictures serves both


@dataclass(frozen=True)
class TwoStepParams(SamplingParams):
    """Both steps of the method."""

    topk: int = key("topk", at_least=2, at_most=MAX_OPTIONS)
    mass: float = key("options.mass", above=0, at_most=1)
    greedy_repetition_penalty: float = key("predict.greedy_repetition_penalty", above=0)
    choice_max_new_tokens: int = key("predict.choice_max_new_tokens", at_least=1)
    choice_repetition_penalty: float = key("predict.choice_repetition_penalty", above=0)

    def greedy_sampler(self) -> Sampler:
        """The sampler of the greedy answer to the open question."""
        return replace(self.sampler(), repetition_penalty=self.greedy_repetition_penalty)

    def choice_sampler(self) -> Sampler:
        """The sampler of the choice among the options."""
        return replace(
            self.sampler(),
            max_new_tokens=self.choice_max_new_tokens,
            repetition_penalty=self.choice_repetition_penalty,
        )

    def samplers(self) -> list[Sampler]:
        """All of them, in the order in which they are used."""
        return [self.greedy_sampler(), self.sampler(), self.choice_sampler()]


@dataclass(frozen=True)
class StepOne:
    """Step 1 of one image: the greedy answer, the K draws, and the options in the order shown (`tables.OPTION`)."""

    image_id: str
    image: bytes | None
    dataset: str
    class_id: int
    subset: str
    greedy: ParsedAnswer
    draws: list[ParsedAnswer]
    options: list[dict[str, Any]]

    def rotated(self, rotation: int) -> list[dict[str, Any]]:
        """The options with the first `rotation` of them at the end."""
        return self.options[rotation:] + self.options[:rotation]


Choices = dict[str, list[Completion]]
"""By image_id the completions of step 2: one for each order of the options, first the order that counts."""


def two_steps(
    engine: Engine,
    images: pl.DataFrame,
    lists: ClassLists,
    params: TwoStepParams,
    orders: int = 1,
    stop: Stop | None = None,
    prefix: str = "",
) -> tuple[list[StepOne], Choices]:
    """Both steps for every image, step 2 for those with at least two options.

    Args:
        images: image_id, dataset, class_id and image.
        orders: of the options in step 2, at most; each is the one before rotated by one place.
        stop: ends the draws of an image early; without it there are always K.
        prefix: text with which every choice begins.

    Raises:
        UserError: more than `params.max_error_rate` of the completions have failed, whatever the others do.
    """
    first_steps: list[StepOne] = []
    choices: Choices = {}
    failures = FailureLimit("predict", params.max_error_rate, images.height * (params.num_samples + 1 + orders))
    with draws_bar("answers", images.height * (params.num_samples + 2), failures) as advance:
        for block in images.iter_slices(BLOCK):
            steps = step_one(engine, block, lists, params, advance, stop)
            for rotation in range(orders):
                for image_id, completion in step_two(engine, steps, lists, params, rotation, prefix).items():
                    choices.setdefault(image_id, []).append(completion)
            advance(parse_choice(step, *choices.get(step.image_id, [None])[:1])[1] for step in steps)
            first_steps += steps
    return first_steps, choices


def step_one(
    engine: Engine,
    images: pl.DataFrame,
    lists: ClassLists,
    params: TwoStepParams,
    advance: Advance,
    stop: Stop | None = None,
) -> list[StepOne]:
    """One greedy answer and K draws for every image, or fewer where `stop` says that they are enough."""
    columns = ("image_id", "image", "dataset", "class_id")
    rows = [(*row, lists.subset(*row[2:])) for row in images[columns].iter_rows()]
    places = {image_id: (dataset, subset) for image_id, _, dataset, _, subset in rows}
    questions = {place: params.question(lists, *place) for place in dict.fromkeys(places.values())}
    open_requests = [
        Request(image_id, image, questions[places[image_id]], [GREEDY], keep_prefill=True)
        for image_id, image, *_ in rows
    ]
    answers: dict[str, dict[int, ParsedAnswer]] = {image_id: {} for image_id in places}
    together = params.greedy_sampler() == params.sampler()  # one batch, where one sampler serves both
    if not together:
        for completion, answer in draw_and_parse(
            engine, open_requests, params.greedy_sampler(), lists, places, advance
        ):
            answers[completion.image_id][GREEDY] = answer
    size = params.num_samples if stop is None else LOOK_EVERY
    for start in range(0, params.num_samples, size):
        numbers = range(start, min(start + size, params.num_samples))
        requests = [
            replace(request, draws=[GREEDY] * (together and start == 0) + [*numbers]) for request in open_requests
        ]
        for completion, answer in draw_and_parse(engine, requests, params.sampler(), lists, places, advance):
            answers[completion.image_id][completion.draw] = answer
        if stop is not None and open_requests:
            enough = stop(_classes([answers[request.image_id] for request in open_requests]))
            open_requests = [request for request, done in zip(open_requests, enough, strict=True) if not done]
    classes = _classes([answers[image_id] for image_id in places])
    options = own_options(
        classes, images["image_id"], images["dataset"], lists.table, params.topk, params.seed, params.mass
    )
    return [
        StepOne(
            image_id,
            image,
            dataset,
            class_id,
            subset,
            greedy=answers[image_id][GREEDY],
            draws=[answer for number, answer in sorted(answers[image_id].items()) if number != GREEDY],
            options=shown,
        )
        for (image_id, image, dataset, class_id, subset), shown in zip(rows, options.to_list(), strict=True)
    ]


def _classes(answers: Sequence[dict[int, ParsedAnswer]]) -> Ints:
    """(images, draws): the classes that the draws so far name."""
    ids = [[one.class_id for number, one in sorted(own.items()) if number != GREEDY] for own in answers]
    return matrix(pl.Series(ids, dtype=pl.List(pl.Int64)))


def step_two(
    engine: Engine,
    steps: list[StepOne],
    lists: ClassLists,
    params: TwoStepParams,
    rotation: int = 0,
    prefix: str = "",
) -> dict[str, Completion]:
    """The greedy choice by image_id, for every image with at least two options and more than `rotation`."""
    requests = [
        Request(
            step.image_id,
            step.image,
            choice_question(
                params.prompt, lists.noun(step.dataset), [option["name"] for option in step.rotated(rotation)]
            ),
            [GREEDY],
            prefix=prefix,
        )
        for step in steps
        if len(step.options) > max(1, rotation)
    ]
    batches = engine.draw(requests, params.choice_sampler())
    return {completion.image_id: completion for batch in batches for completion in batch}


def parse_choice(step: StepOne, choice: Completion | None, rotation: int = 0) -> tuple[str | None, ParsedAnswer]:
    """The letter of step 2, the options being in this order, and the class behind it. Without a question None."""
    if choice is None and step.options:  # a single option is the answer
        return "A", ParsedAnswer("", step.options[0]["name"], step.options[0]["class_id"], "ok", 0)
    if choice is None:
        failed = any(answer.status == "error" for answer in step.draws or [step.greedy])
        return None, ParsedAnswer("", None, None, "error" if failed else "no_answer", 0)
    if choice.error is not None:
        return None, ParsedAnswer(choice.error, None, None, "error", choice.tokens)
    options = step.rotated(rotation)
    answer, chosen = answer_text(choice.text), letter(choice.text, [option["name"] for option in options])
    if chosen is None:
        status = "off_list" if answer else "no_answer" if choice.finished else "truncated"
        return None, ParsedAnswer(choice.text, answer, None, status, choice.tokens, choice.probability)
    option = options[letters(len(options)).index(chosen)]
    return chosen, ParsedAnswer(choice.text, answer, option["class_id"], "ok", choice.tokens, choice.probability)
