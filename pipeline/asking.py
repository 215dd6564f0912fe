"""Step 1 of the method, the same for training images and for test images: ask K times, read what was named."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl

from pipeline import params
from pipeline.answers import answer_text
from pipeline.engines import Completion, Sampler
from pipeline.names import Matcher
from pipeline.params import UserError
from pipeline.prompts import STYLES, open_question


@dataclass(frozen=True)
class AskParams:
    num_samples: int = params.key("num_samples", at_least=1)
    seed: int = params.key("seed", at_least=0, at_most=params.LARGEST_SEED)
    prompt: str = params.key("prompt", one_of=tuple(STYLES))
    class_list: str = params.key("class_list", one_of=("none", "split", "union"))
    temperature: float = params.key("sample.temperature", above=0)
    top_p: float = params.key("sample.top_p", above=0, at_most=1)
    top_k: int = params.key("sample.top_k", at_least=0)
    repetition_penalty: float = params.key("sample.repetition_penalty", above=0)
    penalize_prompt: bool = params.key("sample.penalize_prompt")
    stop: tuple[str, ...] = params.key("sample.stop")
    max_new_tokens: int = params.key("sample.max_new_tokens", at_least=1)
    max_error_rate: float = params.key("max_error_rate", at_least=0, at_most=1)

    def sampler(self) -> Sampler:
        """How the K answers of step 1 are drawn."""
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
        self._nouns: dict[str, str] = dict(classes.select("dataset", "noun").iter_rows())
        for (dataset, half), rows in classes.group_by("dataset", "split", maintain_order=True):
            names, ids = rows["name"].to_list(), rows["class_id"].to_list()
            aliases = {alias: name for name, others in zip(names, rows["aliases"], strict=True) for alias in others}
            self._halves[dataset, half] = Matcher(names, aliases), ids
            self._half_of.update({(dataset, class_id): half for class_id in ids})
            self._names.setdefault(dataset, {}).update(zip(ids, names, strict=True))

    def names_of(self, dataset: str) -> dict[int, str]:
        """Class names of `dataset` by class id, both halves."""
        return self._names[dataset]

    def names_in(self, dataset: str, half: str) -> dict[int, str]:
        """Class names of one half of `dataset` by class id, in the order of the ids."""
        return {class_id: self._names[dataset][class_id] for class_id in sorted(self._halves[dataset, half][1])}

    def half(self, dataset: str, class_id: int) -> str:
        return self._half_of[dataset, class_id]

    def noun(self, dataset: str) -> str:
        return self._nouns[dataset]

    def question(self, dataset: str, half: str, asked: AskParams) -> str:
        """Step 1 for an image of this half, with the class names that `asked.class_list` wants shown."""
        shown = self._names[dataset] if asked.class_list == "union" else self.names_in(dataset, half)
        names = [] if asked.class_list == "none" else [shown[class_id] for class_id in sorted(shown)]
        return open_question(asked.prompt, self._nouns[dataset], names)

    def read(self, completion: Completion, dataset: str, half: str) -> Reading:
        """What `completion` names among the classes of one half."""
        if completion.error is not None:
            return Reading(completion.error, None, None, "error", completion.tokens)
        answer = answer_text(completion.text)
        if answer is None:
            status = "no_answer" if completion.finished else "truncated"
            return Reading(completion.text, None, None, status, completion.tokens)
        class_id = self.named(answer, dataset, half)
        status = "off_list" if class_id is None else "ok"
        return Reading(completion.text, answer, class_id, status, completion.tokens)

    def named(self, answer: str | None, dataset: str, half: str) -> int | None:
        """The class of one half that `answer` names."""
        matcher, ids = self._halves[dataset, half]
        index = matcher.match(answer)
        return None if index is None else ids[index]


UNREADABLE = ("no_answer", "truncated", "error")


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[Iterable[Reading]], None]]:
    """A progress bar of completions, to be told what was read; silent where nobody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rates]}"),
        TextColumn("{task.fields[unreadable]:.1%} unreadable"),
        TimeRemainingColumn(),
    )
    counts = Counter[str]()
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=total, rates="", unreadable=0.0)
        tokens = bar.add_task("tokens", total=None, visible=False, rates="", unreadable=0.0)

        def tell(readings: Iterable[Reading]) -> None:
            read = list(readings)
            counts.update(reading.status for reading in read)
            bar.advance(tokens, sum(reading.tokens for reading in read))
            # rich's speed leaves out the first report, which is what an earlier run has left.
            speeds = [bar.tasks[number].speed or 0.0 for number in (task, tokens)]
            share = sum(counts[status] for status in UNREADABLE) / max(1, counts.total())
            bar.update(
                task,
                advance=len(read),
                rates=f"{speeds[0]:,.0f} draws/s {speeds[1]:,.0f} tokens/s",
                unreadable=share,
            )

        yield tell


def require_few_errors(readings: Sequence[Reading], limit: float, stage: str) -> None:
    """Raises UserError where more than `limit` of the completions failed."""
    failed = [reading.text for reading in readings if reading.status == "error"]
    if len(failed) > limit * len(readings):
        raise UserError(
            f"{stage}: {len(failed)} of {len(readings)} completions failed, the first with {failed[0]!r}, "
            f"wanted at most the share max_error_rate = {limit:g}; mend the cause and `dvc repro {stage}`"
        )
