"""How a stage becomes a command: a user's mistake ends it with one sentence and exit code 1, never a traceback."""

import sys
from collections.abc import Callable

import typer

from pipeline.params import UserError


def run(main: Callable[..., None]) -> None:
    """Runs `main` as a Typer command."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    fail_in_a_sentence(app)


def fail_in_a_sentence(app: typer.Typer) -> None:
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
