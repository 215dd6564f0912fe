"""Step 1 of the method, the same for training images and for test images: ask, draw, parse."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from pipeline.core import tables
from pipeline.core.engine import Completion, Engine, Request, Sampler
from pipeline.core.params import LARGEST_SEED, MOST_DRAWS, key
from pipeline.method.class_lists import ClassLists, ParsedAnswer
from pipeline.method.failures import FailureLimit
from pipeline.method.progress import draws_bar
from pipeline.method.prompts import open_question
from pipeline.method.styles import style

Advance = Callable[[Iterable[ParsedAnswer]], None]
"""Called with the answers that have just been parsed, to move a progress bar."""


@dataclass(frozen=True)
class SamplingParams:
    """How the K answers of step 1 are drawn."""

    num_samples: int = key("num_samples", at_least=1, at_most=MOST_DRAWS)
    seed: int = key("seed", at_least=0, at_most=LARGEST_SEED)
    prompt: str = key("prompt")
    class_list: str = key("class_list", one_of=("none", "subset", "union"))
    temperature: float = key("sample.temperature", above=0)
    top_p: float = key("sample.top_p", above=0, at_most=1)
    top_k: int = key("sample.top_k", at_least=0)
    repetition_penalty: float = key("sample.repetition_penalty", above=0)
    penalize_prompt: bool = key("sample.penalize_prompt")
    stop: tuple[str, ...] = key("sample.stop")
    max_new_tokens: int = key("sample.max_new_tokens", at_least=1)
    max_error_rate: float = key("max_error_rate", at_least=0, at_most=1)

    def __post_init__(self) -> None:
        style(self.prompt)  # a mistake in a style is reported before anything is drawn

    def sampler(self) -> Sampler:
        return Sampler(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            repetition_penalty=self.repetition_penalty,
            penalize_prompt=self.penalize_prompt,
            max_new_tokens=self.max_new_tokens,
            stop=self.stop,
            seed=self.seed,
        )

    def question(self, lists: ClassLists, dataset: str, subset: str) -> str:
        """The open question about an image of this subset, with the class names that `class_list` shows."""
        shown = lists.names_of(dataset) if self.class_list == "union" else lists.names_in(dataset, subset)
        names = [] if self.class_list == "none" else [shown[class_id] for class_id in sorted(shown)]
        return open_question(self.prompt, lists.noun(dataset), names)


def draw_and_parse(
    engine: Engine,
    requests: Sequence[Request],
    sampler: Sampler,
    lists: ClassLists,
    places: Mapping[str, tuple[str, str]],
    advance: Advance,
) -> Iterator[tuple[Completion, ParsedAnswer]]:
    """Every completion with what it names, as the engine draws them.

    Args:
        places: data set and subset by image_id: the classes that an answer may name.
    """
    for batch in engine.draw(requests, sampler):
        parsed = [(completion, lists.parse(completion, *places[completion.image_id])) for completion in batch]
        advance(answer for _, answer in parsed)
        yield from parsed


def draw_samples(engine: Engine, images: pl.DataFrame, classes: pl.DataFrame, params: SamplingParams) -> pl.DataFrame:
    """The table of samples: K draws for every image, each parsed with the base classes.

    Args:
        images: rows of the table of images, all of base classes.

    Raises:
        UserError: more than `max_error_rate` of the draws failed.
    """
    lists = ClassLists(classes)
    places = {image_id: (dataset, "base") for image_id, dataset in images["image_id", "dataset"].iter_rows()}
    questions = {place: params.question(lists, *place) for place in dict.fromkeys(places.values())}
    numbers = range(params.num_samples)
    requests = [
        Request(image_id, image, questions[places[image_id]], numbers)
        for image_id, image in images["image_id", "image"].iter_rows()
    ]
    total = len(requests) * len(numbers)
    with draws_bar("draws", total, FailureLimit("sample", params.max_error_rate, total)) as advance:
        drawn = list(draw_and_parse(engine, requests, params.sampler(), lists, places, advance))
    rows = [
        {
            "image_id": completion.image_id,
            "draw": completion.draw,
            "text": answer.text,
            "answer": answer.answer,
            "class_id": answer.class_id,
            "status": answer.status,
            "tokens": answer.tokens,
        }
        for completion, answer in drawn
    ]
    return pl.DataFrame(rows, schema=tables.SAMPLES.schema)
