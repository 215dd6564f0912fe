"""Show which class each line of a file names, and why."""

import difflib
import sys
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline.core import tables
from pipeline.core.params import UserError
from pipeline.core.terminal import printable
from pipeline.method.class_names import Matcher
from pipeline.method.spelling import normalised

SIMILAR = 3
# A completion that ran to its token limit is neither printed nor compared whole.
LONGEST = 120


class Subset(StrEnum):
    """Subset of the classes."""

    base = "base"
    novel = "novel"


def known_classes(dataset: str, classes: Path) -> list[tuple[int, str, list[str], str]]:
    """class_id, name, aliases and subset of every class, from our own tables or the run's. Raises UserError."""
    from pipeline.datasets import OFFICIAL, layout, protocols

    if dataset in OFFICIAL:
        class_rows = layout.class_table(dataset)
        base = protocols.base_classes(len(class_rows))
        return [(*row, "base" if row[0] < base else "novel") for row in class_rows]
    rows = tables.read(tables.CLASSES, classes) if classes.is_file() else tables.CLASSES.schema.to_frame()
    own = rows.filter(pl.col("dataset") == dataset).select("class_id", "name", "aliases", "subset").rows()
    if not own:
        raise UserError(
            f"there is no class list of a data set {dataset!r}, only of {', '.join(OFFICIAL)} and of those that "
            f"`dvc repro download` has put into {classes}"
        )
    return own


class Reader:
    """Reads answers by a table of classes: class_id, name, aliases."""

    def __init__(self, classes: Sequence[tuple[int, str, list[str]]]):
        self._names = [name for _, name, _ in classes]
        self._matcher = Matcher(self._names, {alias: name for _, name, aliases in classes for alias in aliases})
        self._similar = {normalised(text): name for _, name, aliases in classes for text in (*aliases, name)}

    def line(self, text: str) -> str:
        """`text` with the class that it names, and why."""
        return f"{_quoted(text)}: {self._match_line(text)}"

    def _match_line(self, text: str) -> str:
        why = self._matcher.explain(text)
        if why.index is None and why.spellings:
            shared = dict.fromkeys(self._spelled(spelling, index) for spelling, index in why.spellings)
            return f"none: could be {' or '.join(shared)}"
        if why.index is None:
            similar = ", ".join(self._near(normalised(text[:LONGEST])))
            return f"none: not matched{'; similar: ' if similar else ''}{similar}"
        spelling, _ = why.spellings[0]
        rule = "class name" if spelling == self._names[why.index] else f"alias {spelling!r}"
        read_as = f", read as {_quoted(why.read_as)}" if why.read_as != text.strip() else ""
        overlooked = f", overlooking {why.overlooked}" if why.overlooked else ""
        return f"{self._names[why.index]}: {rule}{read_as}{overlooked}"

    def _near(self, text: str) -> list[str]:
        """Names that a person may have had in mind: those with all the words of `text`, then those spelled alike."""
        words = set(text.split())
        holding = [key for key in self._similar if words and words <= set(key.split())]
        alike = difflib.get_close_matches(text, self._similar, SIMILAR)
        return list(dict.fromkeys(self._similar[key] for key in (*holding, *alike)))[:SIMILAR]

    def _spelled(self, spelling: str, index: int) -> str:
        name = self._names[index]
        return name if spelling == name else f"{name} (alias {spelling!r})"


def _quoted(text: str) -> str:
    return repr(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")


def _lines(file: Iterable[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(f"{name}: line {number} is not UTF-8 text ({error.reason}); save it as UTF-8") from None


def names(
    answers: Annotated[Path, typer.Argument(help="Text file with one answer a line; - for standard input.")],
    dataset: Annotated[str, typer.Option(help="Data set whose class names count: cub, flowers, pets …")],
    subset: Annotated[
        Subset | None, typer.Option(help="Parse with the classes of this subset alone, as the stages do.")
    ] = None,
    classes: Annotated[Path, typer.Option(help="Table of classes, for data sets of your own.")] = Path(
        "data/classes.parquet"
    ),
) -> None:
    """Show which class each line of a file names, and why."""
    reader = Reader(
        [class_rows[:3] for class_rows in known_classes(dataset, classes) if subset in (None, class_rows[3])]
    )
    if str(answers) == "-":
        for line in _lines(sys.stdin.buffer, "standard input"):
            print(printable(reader.line(line)), flush=True)
        return
    try:
        with answers.open("rb") as file:
            for line in _lines(file, str(answers)):
                print(printable(reader.line(line)))
    except OSError as error:
        raise UserError(
            f"{answers}: cannot be read ({error.strerror}); it must be a text file with one answer a line"
        ) from None
