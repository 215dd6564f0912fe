"""Progress on stderr, with a rate and the time left: a bar on a terminal, a line every ten minutes in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[], None]
"""Call it after each finished unit."""

LINE_EVERY = 600.0  # seconds


class ProgressLog:
    """Lines on stderr for a log: one every ten minutes, none about work that ends sooner.

    Args:
        total: units of work, called `unit`.
        clock: in seconds.
    """

    def __init__(self, what: str, total: int, unit: str, clock: Callable[[], float] = time.monotonic):
        self.what, self.total, self.unit, self.clock = what, total, unit, clock
        self.done, self.start = 0, clock()
        self.last = self.start

    def advance(self, count: int = 1, note: str = "") -> None:
        """Counts finished units, and writes a line where it is time for one; `note` ends it."""
        self.done += count
        now = self.clock()
        if now - self.last < LINE_EVERY:
            return
        self.last = now
        rate = self.done / (now - self.start)
        left = round((self.total - self.done) / rate / 60) if rate else 0
        line = f"{self.what}: {self.done:,} of {self.total:,} {self.unit}, {rate:,.1f}/s"
        print(f"{line}, {left // 60} h {left % 60:02} min left{note}", file=sys.stderr, flush=True)


@contextmanager
def bar(what: str, total: int, unit: str, visible: bool = True) -> Iterator[Advance]:
    """Progress over `total` units of work. rich respects NO_COLOR and TERM."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.1f} {unit}/s" if task.speed else "")

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), Rate())
    silent = not (visible and console.is_terminal)
    log = ProgressLog(what, total, unit) if visible and silent else None
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=silent, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield log.advance if log else lambda: progress.advance(task)
