"""How a stage becomes a command: a user's mistake ends it with one sentence and exit code 1, never a traceback."""

import functools
import sys
from collections.abc import Callable
from typing import Any

import typer

from pipeline.core import timings
from pipeline.core.manual import epilog
from pipeline.core.params import UserError


def run(main: Callable[..., None], *settings: type) -> None:
    """Runs `main` as a Typer command, and keeps what it took.

    Args:
        settings: the dataclasses of what it reads from params.yaml, which its help tells of.
    """
    module = getattr(sys.modules["__main__"], "__spec__", None)

    @functools.wraps(main)
    def stage(**values: Any) -> None:
        main(**values)
        if module:
            timings.save(module.name.rpartition(".")[2])

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(epilog=epilog(settings) if "--help" in sys.argv else None)(stage)
    exit_on_user_error(app)


def exit_on_user_error(app: typer.Typer) -> None:
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
