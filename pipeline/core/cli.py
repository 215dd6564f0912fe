"""How a stage becomes a command: a user's mistake ends it with one sentence and exit code 1, never a traceback."""

import functools
import io
import sys
from collections.abc import Callable
from typing import Any

import typer

from pipeline.core import timings
from pipeline.core.errors import UserError, system_sentence
from pipeline.core.help_text import epilog
from pipeline.core.terminal import printable


def run(main: Callable[..., None], *params: type) -> None:
    """Runs `main` as a Typer command, and records its work and duration.

    Args:
        params: the dataclasses of the keys that it reads from params.yaml; its `--help` lists them.
    """
    module = getattr(sys.modules["__main__"], "__spec__", None)

    @functools.wraps(main)
    def stage(**values: Any) -> None:
        main(**values)
        if module:
            timings.save(module.name.rpartition(".")[2])

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(epilog=epilog(params) if "--help" in sys.argv else None)(stage)
    exit_on_user_error(app)


def exit_on_user_error(app: typer.Typer) -> None:
    """Runs `app`; a UserError, or what the system refuses, is printed to stderr as one sentence, with exit code 1.

    Where the locale has no sign for a character (→, ü), an escape is printed.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except (UserError, OSError) as error:
        sentence = system_sentence(error) if isinstance(error, OSError) else str(error)
        print(printable(f"error: {sentence}"), file=sys.stderr)
        sys.exit(1)
