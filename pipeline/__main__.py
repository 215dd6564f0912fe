"""`python -m pipeline …`: the commands beside the stages."""

import typer

from pipeline.commands.classify import classify
from pipeline.commands.compare import compare
from pipeline.commands.cost import cost
from pipeline.commands.draws import draws
from pipeline.commands.families import families
from pipeline.commands.names import names
from pipeline.commands.paper_tables import paper_tables
from pipeline.commands.preset import preset
from pipeline.commands.publish import publish
from pipeline.commands.rehearse import rehearse
from pipeline.commands.suite import suite
from pipeline.commands.summary import summary
from pipeline.core.cli import exit_on_user_error

app = typer.Typer(
    help="divek: vision-language models that tell look-alike classes apart.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(summary)
app.command()(classify)
app.command()(draws)
app.command()(names)
app.command()(preset)
app.command()(families)
app.command()(rehearse)
app.command()(suite)
app.command()(compare)
app.command()(cost)
app.command()(paper_tables)
app.command()(publish)


@app.callback()
def commands() -> None:
    """The stages run with `dvc repro`; these are the other commands."""


def main() -> None:
    """The console script `divek`, for users who install the project; stages never call it."""
    exit_on_user_error(app)


if __name__ == "__main__":
    main()
