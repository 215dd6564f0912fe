"""The progress bar of drawing: draws and tokens per second, and the share of completions that cannot be parsed."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from pipeline.core.progress import ProgressLog
from pipeline.method.class_lists import ParsedAnswer
from pipeline.method.failures import FailureLimit

UNPARSED = ("no_answer", "truncated", "error")


@contextmanager
def draws_bar(
    title: str, total: int, failures: FailureLimit | None = None
) -> Iterator[Callable[[Iterable[ParsedAnswer]], None]]:
    """Progress over `total` completions on stderr: a bar, or lines where that is no terminal.

    Gives a function to call with the answers that have just been parsed; it raises UserError where too many failed.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rates]}"),
        TextColumn("{task.fields[unparsed]:.1%} unreadable"),
        TimeRemainingColumn(),
    )
    counts, log = Counter[str](), ProgressLog(title, total, "draws")
    silent = not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=silent) as bar:
        task = bar.add_task(title, total=total, rates="", unparsed=0.0)
        tokens = bar.add_task("tokens", total=None, visible=False, rates="", unparsed=0.0)

        def advance(answers: Iterable[ParsedAnswer]) -> None:
            batch = list(answers)
            if failures:
                failures.count(batch)
            counts.update(answer.status for answer in batch)
            bar.advance(tokens, sum(answer.tokens for answer in batch))
            # rich's speed leaves out the first report, which is what an earlier run has left.
            speeds = [bar.tasks[number].speed or 0.0 for number in (task, tokens)]
            share = sum(counts[status] for status in UNPARSED) / max(1, counts.total())
            if silent:
                log.advance(len(batch), f", {share:.1%} unreadable")
            bar.update(
                task,
                advance=len(batch),
                rates=f"{speeds[0]:,.0f} draws/s {speeds[1]:,.0f} tokens/s",
                unparsed=share,
            )

        yield advance
