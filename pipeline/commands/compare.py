"""Compare two runs, by git revision or DVC experiment, on the images that both answered."""

import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline import comparison, metrics, tables
from pipeline.comparison import Resampled
from pipeline.evaluate import gates
from pipeline.files import write_text
from pipeline.params import UserError

SHOWN = 10  # flipped images that are printed


def predictions(revision: str, model: str) -> pl.DataFrame:
    """The table of predictions of `model` as it was at a revision or experiment. Raises UserError."""
    import dvc.api
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError

    path = f"data/predictions/{model}.parquet"
    try:
        content = dvc.api.read(path, rev=revision, mode="rb")
    except (DvcException, SCMError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{revision}: no {path} ({reason}), wanted a git revision or an experiment whose outputs are in the cache; "
            "`dvc exp show` lists them, `dvc exp apply` and `dvc repro` make what is missing"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"{model}.parquet"
        copy.write_bytes(content)
        return tables.read(tables.PREDICTIONS, copy)


def shared(first: pl.DataFrame, second: pl.DataFrame, names: tuple[str, str]) -> pl.DataFrame:
    """Both tables as one, of the test and validation images that are in both with the same class.

    `names` become the models. Raises UserError where there are none.
    """
    keys = ["split", "dataset", "image_id", "class_id", "half"]
    both = first.select(keys).join(second.select(keys), on=keys)
    if not both.filter(split="test").height:
        raise UserError(
            f"{names[0]} and {names[1]} answered no image alike ({first.height} and {second.height} images), wanted "
            "runs of the same data set and split; `dvc exp show` tells how they were set"
        )
    return pl.concat(
        [
            rows.join(both, on=keys, how="semi").with_columns(model=pl.lit(name))
            for rows, name in zip((first, second), names, strict=True)
        ]
    )


def lines(table: pl.DataFrame) -> list[str]:
    """The differences in percentage points, one line for every answer and part."""
    found = [_line("answer", "part", "points", "95 % interval", "p", "Holm", "McNemar", "only one right")]
    for row in table.filter(dataset="all").iter_rows(named=True):
        answer = row["first"].rpartition(" ")[2]
        ends = "–" if row["low"] is None else f"{100 * row['low']:+.1f} … {100 * row['high']:+.1f}"
        p, corrected, exact = (_p(row[name]) for name in ("p", "p_holm", "p_mcnemar"))
        flips = "" if row["only_first"] is None else f"{row['only_first']:>4} against {row['only_second']}"
        found.append(_line(answer, row["part"], f"{100 * row['difference']:+.1f}", ends, p, corrected, exact, flips))
    return found


def _line(answer: str, part: str, points: str, ends: str, p: str, corrected: str, exact: str, flips: str) -> str:
    return f"{answer:10}{part:8}{points:>8}  {ends:>16}{p:>8}{corrected:>8}{exact:>9}   {flips}".rstrip()


def _p(value: float | None) -> str:
    return "" if value is None else "<.001" if value < 0.001 else f"{value:.3f}"


def flipped(rows: pl.DataFrame, names: tuple[str, str], answer: str) -> pl.DataFrame:
    """Test images that only one of two models has right: image, class, half, each one's answer, and which is right."""
    test = rows.filter(split="test")
    scored = metrics.scores(test, gates(rows.filter(split="val"))).select("model", "image_id", right=answer)
    rows = test.join(scored, on=["model", "image_id"])
    first, second = (rows.filter(model=name).drop("model") for name in names)
    both = first.join(second.select("image_id", "right", answer), on="image_id", suffix="_second")
    return (
        both.filter(pl.col("right") != pl.col("right_second"))
        .select(
            "dataset",
            "image_id",
            "half",
            "class_id",
            first=answer,
            second=f"{answer}_second",
            right=pl.when(pl.col("right") > 0).then(pl.lit("first")).otherwise(pl.lit("second")),
        )
        .sort("right", "dataset", "image_id")
    )


def revisions() -> list[str]:
    """Branches, tags and experiments, for a shell that completes them; none outside of a repository."""
    command = ["git", "for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags", "refs/exps"]
    found = subprocess.run(command, capture_output=True, text=True).stdout.split()
    return ["HEAD", *sorted({name.rpartition("/")[2] for name in found})]


def compare(
    first: Annotated[
        str, typer.Argument(help="Git revision or experiment that is compared with.", autocompletion=revisions)
    ],
    second: Annotated[
        str, typer.Argument(help="Git revision or experiment that is compared.", autocompletion=revisions)
    ],
    model: Annotated[str, typer.Option(help="Which model of the two runs: base or trained.")] = "trained",
    answer: Annotated[str, typer.Option(help="Answer whose flips are listed.")] = "two_step",
    flips: Annotated[Path | None, typer.Option(help="CSV file to write all flipped images to.")] = None,
) -> None:
    """Compare two runs on the images that both answered: differences with intervals and p-values, and what flipped.

    Second minus first. Intervals and p are resampled by class, as for other classes like these; McNemar's exact test is
    for these very classes. Holm's p is corrected for the number of answers compared.
    """
    if answer not in ("one_step", "vote", "two_step"):
        raise UserError(f"--answer {answer}: no such answer, wanted one_step, vote or two_step")
    names = (f"{first} {model}", f"{second} {model}") if first != second else (first, f"{second} again")
    rows = shared(predictions(first, model), predictions(second, model), names)
    scored = metrics.scores(rows.filter(split="test"), gates(rows.filter(split="val")))
    pairs = [((names[0], arm), (names[1], arm)) for arm in ("pass@1", *metrics.ARMS)]
    print("\n".join(lines(comparison.differences(Resampled(scored), pairs))))
    changed = flipped(rows, names, answer)
    if flips:
        write_text(flips, changed.write_csv())
    for which, name in (("first", first), ("second", second)):
        ids = changed.filter(right=which)["image_id"].to_list()
        more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
        print(f"{answer}, right in {name} only: {len(ids)} images {' '.join(ids[:SHOWN])}{more}".rstrip())
