"""Compare two runs, by git revision or DVC experiment, on the images that both answered."""

import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline.core import tables
from pipeline.core.files import write_text
from pipeline.core.params import UserError
from pipeline.core.tables import Table
from pipeline.evaluation import comparison, metrics
from pipeline.evaluation.comparison import Resampled
from pipeline.evaluation.results import vote_thresholds

SHOWN = 10  # flipped images that are printed
OWN = ("base", "trained")  # models with a table of their own; the further ones share one
CLASSES_FILE = "data/classes.parquet"

Pair = tuple[str, str]


def table_at(revision: str, table: Table, path: str) -> pl.DataFrame:
    """A table as it was at a revision or experiment. Raises UserError."""
    import dvc.api
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError

    try:
        content = dvc.api.read(path, rev=revision, mode="rb")
    except (DvcException, SCMError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{revision}: no {path} ({reason}), wanted a git revision or an experiment whose outputs are in the cache; "
            "`dvc exp show` lists them, `dvc exp apply` and `dvc repro` make what is missing"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / Path(path).name
        copy.write_bytes(content)
        return tables.read(table, copy)


def predictions(revision: str, model: str) -> pl.DataFrame:
    """The predictions of `model` as they were at a revision or experiment. Raises UserError."""
    name = model if model in OWN else "rivals"
    rows = table_at(revision, tables.PREDICTIONS, f"data/predictions/{name}.parquet")
    if model not in (known := rows["model"].unique(maintain_order=True).to_list()):
        there = ", ".join(dict.fromkeys((*OWN, *known)))
        raise UserError(
            f"{revision}: no model {model!r}, wanted one of {there}; name it with --model, or `dvc repro` "
            "with it in evaluate.models"
        )
    return rows.filter(model=model)


def shared(first: pl.DataFrame, second: pl.DataFrame, names: Pair) -> pl.DataFrame:
    """Both tables as one, of the test and validation images that are in both with the same class.

    `names` become the models. Raises UserError where there are none.
    """
    keys = ["split", "dataset", "image_id", "class_id", "subset"]
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


def sides(first: tuple[str, ...], second: tuple[str, ...]) -> Pair:
    """What tells two lists of revision, model and answer apart; the revision where nothing does."""
    places = [place for place, (one, other) in enumerate(zip(first, second, strict=True)) if one != other]
    if not places:
        return first[0], f"{second[0]} again"
    return " ".join(first[place] for place in places), " ".join(second[place] for place in places)


def answers(rows: pl.DataFrame, names: Pair, wanted: tuple[str | None, str | None]) -> Pair:
    """The answer of each model whose flips are listed: two_step, or one_step where not both have it, if none is wanted.

    The second is the same as the first if none is wanted. Raises UserError where a model has no such answer.
    """
    has = [arms_of(rows.filter(model=name)) for name in names]
    first = wanted[0] or ("two_step" if all("two_step" in arms for arms in has) else "one_step")
    second = wanted[1] or first
    for name, answer, arms in zip(names, (first, second), has, strict=True):
        if answer not in arms:
            raise UserError(
                f"{name} has no answer {answer}, wanted one of {', '.join(arms)}; name one of each model with "
                "--answer and --second-answer"
            )
    return first, second


def arms_of(rows: pl.DataFrame) -> list[str]:
    """The ways to answer that one model has."""
    return [arm for arm in metrics.ARMS if arm in metrics.measured(rows.filter(split="test"))]


def lines(table: pl.DataFrame) -> list[str]:
    """The differences in percentage points, one line for every answer, part and, where there are several, data set."""
    sets = table["dataset"].unique(maintain_order=True).to_list()
    label = max(map(len, ("data set", *sets))) + 2 if len(sets) > 1 else 0
    named = [_answer(row) for row in table.select("first", "second").iter_rows()]
    width = max(10, *(len(answer) + 2 for answer in named))

    def line(dataset: str, answer: str, *cells: str) -> str:
        part, points, ends, p, holm, exact, flips = cells
        said = f"{dataset:{label}}" if label else ""
        said += f"{answer:{width}}{part:8}{points:>8}  {ends:>16}{p:>8}{holm:>8}{exact:>9}   {flips}"
        return said.rstrip()

    found = [line("data set", "answer", "part", "points", "95 % interval", "p", "Holm", "McNemar", "only one right")]
    for scope in sets:
        for row in table.filter(dataset=scope).iter_rows(named=True):
            ends = "–" if row["low"] is None else f"{100 * row['low']:+.1f} … {100 * row['high']:+.1f}"
            p, corrected, exact = (_p(row[name]) for name in ("p", "p_holm", "p_mcnemar"))
            flips = "" if row["only_first"] is None else f"{row['only_first']:>4} against {row['only_second']}"
            points, answer = f"{100 * row['difference']:+.1f}", _answer((row["first"], row["second"]))
            found.append(line(scope, answer, row["part"], points, ends, p, corrected, exact, flips))
    return found


def _answer(ways: Pair) -> str:
    first, second = (way.rpartition(" ")[2] for way in ways)
    return first if first == second else f"{first}→{second}"


def _p(value: float | None) -> str:
    return "" if value is None else "<.001" if value < 0.001 else f"{value:.3f}"


def flipped(rows: pl.DataFrame, names: Pair, arms: Pair, classes: tuple[pl.DataFrame, pl.DataFrame]) -> pl.DataFrame:
    """Test images that only one of two models has right: image, class, half, each one's answer, and which is right.

    Args:
        arms: the way to answer of each model.
        classes: the table of classes of each run, which names its answers; the first one names the truth.
    """
    test, found = rows.filter(split="test"), metrics.chosen(rows, vote_thresholds(rows.filter(split="val")))
    found_by = []
    for name, arm, side, names_of in zip(names, arms, ("first", "second"), classes, strict=True):
        own = found.filter(model=name).select("image_id", pl.col(arm).alias(side))
        known = names_of.select("dataset", pl.col("class_id").alias(side), pl.col("name").alias(f"{side}_class"))
        images = test.filter(model=name).select("dataset", "image_id", "subset", "class_id")
        found_by.append(images.join(own, on="image_id").join(known, on=["dataset", side], how="left"))
    truth = classes[0].select("dataset", "class_id", truth="name")
    both = found_by[0].join(found_by[1].select("image_id", "second", "second_class"), on="image_id")
    right, other = (pl.col(side).eq_missing(pl.col("class_id")) for side in ("first", "second"))
    return (
        both.filter(right != other)
        .join(truth, on=["dataset", "class_id"], how="left")
        .select(
            *("dataset", "image_id", "subset", "class_id", "truth"),
            *("first", "first_class", "second", "second_class"),
            right=pl.when(right).then(pl.lit("first")).otherwise(pl.lit("second")),
        )
        .sort("right", "dataset", "image_id")
    )


def told(changed: pl.DataFrame, names: Pair, answer: str) -> list[str]:
    """How many images only one has right, and of the first ones what they show and what was answered."""
    several, found = changed["dataset"].n_unique() > 1, []
    for which, name in zip(("first", "second"), names, strict=True):
        rows = changed.filter(right=which)
        found.append(f"{answer}, right in {name} only: {rows.height} images")
        for row in rows.head(SHOWN).iter_rows(named=True):
            said = "; ".join(
                f"{side}: {row[f'{place}_class'] or 'no class'}"
                for side, place in zip(names, ("first", "second"), strict=True)
            )
            dataset = f"{row['dataset']} " if several else ""
            found.append(f"  {dataset}{row['image_id']}  {row['truth']}; {said}")
        if rows.height > SHOWN:
            found.append(f"  and {rows.height - SHOWN} more; --flips writes all of them")
    return found


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
    model: Annotated[
        str, typer.Option(help="Which model: base, trained, or one of evaluate.models as the reports call it.")
    ] = "trained",
    second_model: Annotated[
        str | None, typer.Option(help="Which model of the second run; the same where it is not given.")
    ] = None,
    answer: Annotated[
        str | None,
        typer.Option(
            help=f"Answer whose flips are listed, one of {', '.join(metrics.ARMS)}; two_step where both have it, else "
            "one_step, where it is not given."
        ),
    ] = None,
    second_answer: Annotated[
        str | None,
        typer.Option(help="Answer of the second run; where it is another one, the two alone are compared."),
    ] = None,
    flips: Annotated[Path | None, typer.Option(help="CSV file to write all flipped images to.")] = None,
) -> None:
    """Compare two runs on the images that both answered: differences with intervals and p-values, and what flipped.

    Second minus first. They may be two models of one run, or two answers of one model. Intervals and p are resampled by
    class, as for other classes like these; McNemar's exact test is for these very classes. Holm's p is corrected for
    the number of answers compared.
    """
    for given in (answer, second_answer):
        if given is not None and given not in metrics.ARMS:
            raise UserError(f"--answer {given}: no such answer, wanted one of {', '.join(metrics.ARMS)}")
    of = (model, second_model or model)
    names = f"{first} {of[0]}", f"{second} {of[1]}"
    if names[0] == names[1]:
        names = names[0], f"{names[1]} again"
    rows = shared(predictions(first, of[0]), predictions(second, of[1]), names)
    arms = answers(rows, names, (answer, second_answer))
    scored = metrics.scores(rows.filter(split="test"), vote_thresholds(rows.filter(split="val")))
    resampled = Resampled(scored)
    pairs = [((names[0], arm), (names[1], arm)) for arm in ("pass@1", *metrics.ARMS)]
    if arms[0] != arms[1]:
        pairs = [((names[0], arms[0]), (names[1], arms[1]))]
    known = [pair for pair in pairs if set(pair) <= set(resampled.ways)]
    print("\n".join(lines(comparison.differences(resampled, known))))
    classes = table_at(first, tables.CLASSES, CLASSES_FILE)
    others = classes if first == second else table_at(second, tables.CLASSES, CLASSES_FILE)
    changed = flipped(rows, names, arms, (classes, others))
    if flips:
        write_text(flips, changed.write_csv())
    short = sides((first, of[0], arms[0]), (second, of[1], arms[1]))
    print("\n".join(told(changed, short, _answer(arms))))
