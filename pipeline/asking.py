"""Step 1 of the method, the same for training images and for test images: ask K times, read what was named."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from pipeline import params
from pipeline.answers import answer_text
from pipeline.engines import Completion, Engine, Request, Sampler
from pipeline.names import Matcher
from pipeline.params import UserError
from pipeline.prompts import STYLES, open_question


@dataclass(frozen=True)
class AskParams:
    num_samples: int = params.key("num_samples", at_least=1)
    seed: int = params.key("seed", at_least=0, at_most=params.LARGEST_SEED)
    prompt: str = params.key("prompt", one_of=tuple(STYLES))
    noun: str = params.key("noun")
    temperature: float = params.key("sample.temperature", above=0)
    top_p: float = params.key("sample.top_p", above=0, at_most=1)
    top_k: int = params.key("sample.top_k", at_least=0)
    repetition_penalty: float = params.key("sample.repetition_penalty", above=0)
    max_new_tokens: int = params.key("sample.max_new_tokens", at_least=1)
    max_error_rate: float = params.key("max_error_rate", at_least=0, at_most=1)
    dtype: str = params.key("engine.dtype", one_of=("float32", "bfloat16", "float16"))
    attention: str = params.key("engine.attention", one_of=("eager", "sdpa", "flash_attention_2"))
    max_rows: int = params.key("engine.max_rows", at_least=1)
    max_images: int = params.key("engine.max_images", at_least=1)
    threads: int = params.key("engine.threads", at_least=0)

    def connect(self, model: str) -> Engine:
        """The engine that draws from `model`."""
        from pipeline.engines.transformers import TransformersEngine

        return TransformersEngine(model, self.dtype, self.attention, self.max_rows, self.max_images, self.threads)

    def sampler(self) -> Sampler:
        """How the K answers of step 1 are drawn."""
        return Sampler(
            self.temperature, self.top_p, self.top_k, self.repetition_penalty, self.max_new_tokens, self.seed
        )


@dataclass(frozen=True)
class Reading:
    """One completion of step 1, read: what it answers and which class that is."""

    text: str
    answer: str | None
    class_id: int | None
    status: str
    tokens: int


class ClassLists:
    """Class names by data set and half. An answer counts only when it names a class of the image's own half."""

    def __init__(self, classes: pl.DataFrame):
        self._halves: dict[tuple[str, str], tuple[Matcher, list[int]]] = {}
        self._half_of: dict[tuple[str, int], str] = {}
        self._names: dict[str, dict[int, str]] = {}
        for (dataset, half), rows in classes.group_by("dataset", "split", maintain_order=True):
            names, ids = rows["name"].to_list(), rows["class_id"].to_list()
            aliases = {alias: name for name, others in zip(names, rows["aliases"], strict=True) for alias in others}
            self._halves[dataset, half] = Matcher(names, aliases), ids
            self._half_of.update({(dataset, class_id): half for class_id in ids})
            self._names.setdefault(dataset, {}).update(zip(ids, names, strict=True))

    def names_of(self, dataset: str) -> dict[int, str]:
        """Class names of `dataset` by class id, both halves."""
        return self._names[dataset]

    def half(self, dataset: str, class_id: int) -> str:
        return self._half_of[dataset, class_id]

    def read(self, completion: Completion, dataset: str, half: str) -> Reading:
        """What `completion` names among the classes of one half."""
        if completion.error is not None:
            return Reading(completion.error, None, None, "error", completion.tokens)
        answer = answer_text(completion.text)
        if answer is None:
            status = "no_answer" if completion.finished else "truncated"
            return Reading(completion.text, None, None, status, completion.tokens)
        matcher, ids = self._halves[dataset, half]
        index = matcher.match(answer)
        if index is None:
            return Reading(completion.text, answer, None, "off_list", completion.tokens)
        return Reading(completion.text, answer, ids[index], "ok", completion.tokens)


def requests(images: pl.DataFrame, asked: AskParams) -> list[Request]:
    """The open question for every image."""
    question = open_question(asked.prompt, asked.noun)
    return [Request(image_id, image, question) for image_id, image in images.select("image_id", "image").iter_rows()]


def with_progress(batches: Iterable[list[Completion]], total: int, what: str) -> Iterator[list[Completion]]:
    """Passes batches on, with a progress bar of the completions; silent where nobody watches."""
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=total)
        for batch in batches:
            yield batch
            bar.advance(task, len(batch))


def require_few_errors(readings: Sequence[Reading], limit: float, stage: str) -> None:
    """Raises UserError where more than `limit` of the completions failed."""
    failed = [reading.text for reading in readings if reading.status == "error"]
    if len(failed) > limit * len(readings):
        raise UserError(
            f"{stage}: {len(failed)} of {len(readings)} completions failed, the first with {failed[0]!r}, "
            f"wanted at most the share max_error_rate = {limit:g}; mend the cause and `dvc repro {stage}`"
        )
