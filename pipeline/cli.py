"""How a stage becomes a command: a user's mistake ends it with one sentence and exit code 1, never a traceback."""

import functools
import sys
from collections.abc import Callable
from typing import Any

import typer

from pipeline import rates
from pipeline.manual import epilog
from pipeline.params import UserError


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
            rates.keep(module.name.rpartition(".")[2])

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(epilog=epilog(settings) if "--help" in sys.argv else None)(stage)
    fail_in_a_sentence(app)


def fail_in_a_sentence(app: typer.Typer) -> None:
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
