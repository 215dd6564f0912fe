"""Files as they were at a git revision or in a DVC experiment."""

import subprocess
import tempfile
from pathlib import Path

import polars as pl

from pipeline.core import tables
from pipeline.core.params import UserError, first_line
from pipeline.core.schemas import Table


def read_at(revision: str, path: str) -> bytes:
    """A file of the repository or of DVC's cache as it was at a revision or experiment. Raises UserError."""
    import dvc.api
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError

    try:
        content: bytes = dvc.api.read(path, rev=revision, mode="rb")
    except (DvcException, SCMError, OSError) as error:
        raise UserError(
            f"{revision}: {path} cannot be read ({first_line(error)}); expected a git revision or an experiment whose "
            "outputs are in the cache; `dvc exp show` lists them, `dvc exp apply` and `dvc repro` make what is missing"
        ) from None
    return content


def table_at(revision: str, table: Table, path: str) -> pl.DataFrame:
    """A table as it was at a revision or experiment. Raises UserError."""
    content = read_at(revision, path)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / Path(path).name
        copy.write_bytes(content)
        return tables.read(table, copy)


def git(*arguments: str, stdin: str = "") -> str:
    """What git prints; empty where it fails, as outside of a repository."""
    return subprocess.run(
        ["git", *arguments], input=stdin, capture_output=True, encoding="utf-8", errors="replace"
    ).stdout


def names_of_revisions() -> list[str]:
    """Branches, tags and experiments, for shell completion; HEAD alone outside of a repository."""
    references = git("for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags", "refs/exps").split()
    return ["HEAD", *sorted({name.rpartition("/")[2] for name in references})]
