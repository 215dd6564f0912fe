"""Progress bars on stderr, with a rate and the time left; none where stderr is no terminal, as in logs and CI."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[], None]
"""Call it after each finished unit."""


@contextmanager
def bar(what: str, total: int, unit: str, visible: bool = True) -> Iterator[Advance]:
    """A bar over `total` units of work. rich respects NO_COLOR and TERM."""
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
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=silent, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
