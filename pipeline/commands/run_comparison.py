"""What compare computes and prints: the shared images of two runs, their differences, and the images that flipped."""

import polars as pl

from pipeline.core.params import UserError
from pipeline.core.words import counted
from pipeline.evaluation.scoring import ScoredPredictions
from pipeline.evaluation.ways import answering, measured, way

SHOWN = 10  # flipped images that are printed

Pair = tuple[str, str]
"""Something of the first run and the same of the second."""


def shared_images(first: pl.DataFrame, second: pl.DataFrame, names: Pair) -> pl.DataFrame:
    """Both tables as one, with the test and validation images that are in both with the same class.

    `names` become the models. Raises UserError where there are no such test images.
    """
    keys = ["split", "dataset", "image_id", "class_id", "subset"]
    both = first.select(keys).join(second.select(keys), on=keys)
    if not both.filter(split="test").height:
        raise UserError(
            f"{names[0]} and {names[1]} have no test image in common ({first.height} and {second.height} images); "
            "expected runs of the same data set and split; `dvc exp show` lists their settings"
        )
    return pl.concat(
        [
            rows.join(both, on=keys, how="semi").with_columns(model=pl.lit(name))
            for rows, name in zip((first, second), names, strict=True)
        ]
    )


def distinct_labels(first: tuple[str, ...], second: tuple[str, ...]) -> Pair:
    """The parts in which two lists of revision, model and answer differ; the revision where none does."""
    places = [place for place, (one, other) in enumerate(zip(first, second, strict=True)) if one != other]
    if not places:
        return first[0], f"{second[0]} again"
    return " ".join(first[place] for place in places), " ".join(second[place] for place in places)


def ways_to_list(rows: pl.DataFrame, names: Pair, requests: tuple[str | None, str | None]) -> Pair:
    """The way to answer of each model whose flips are listed.

    Without a request it is two_step, or one_step where not both models have two_step; the second is the same as the
    first. Raises UserError where a model does not have the way.
    """
    own = [ways_of(rows.filter(model=name)) for name in names]
    first = requests[0] or ("two_step" if all("two_step" in ways for ways in own) else "one_step")
    second = requests[1] or first
    for name, answer, ways in zip(names, (first, second), own, strict=True):
        if answer not in ways:
            raise UserError(
                f"{name} has no answer {answer}, only {', '.join(ways)}; choose an answer for each model with "
                "--answer and --second-answer"
            )
    return first, second


def ways_of(rows: pl.DataFrame) -> list[str]:
    """The ways by which one model gives a single class."""
    own = {way.name for way in measured(rows.filter(split="test"))}
    return [way.name for way in answering() if way.name in own]


def difference_lines(table: pl.DataFrame) -> list[str]:
    """The differences in percentage points: a line for every answer, subset and, where there are several, data set."""
    sets = table["dataset"].unique(maintain_order=True).to_list()
    label = max(map(len, ("data set", *sets))) + 2 if len(sets) > 1 else 0
    answers = [arrow((row[0].rpartition(" ")[2], row[1].rpartition(" ")[2])) for row in table["first", "second"].rows()]
    width = max(10, *(len(answer) + 2 for answer in answers))

    def line(dataset: str, answer: str, *cells: str) -> str:
        subset, points, ends, p, holm, exact, flips = cells
        start = f"{dataset:{label}}" if label else ""
        return f"{start}{answer:{width}}{subset:8}{points:>8}  {ends:>16}{p:>8}{holm:>8}{exact:>9}   {flips}".rstrip()

    lines = [line("data set", "answer", "subset", "points", "95 % interval", "p", "Holm", "McNemar", "only one right")]
    for row, answer in zip(table.iter_rows(named=True), answers, strict=True):
        ends = "–" if row["low"] is None else f"{100 * row['low']:+.1f} … {100 * row['high']:+.1f}"
        p, corrected, exact = (_p(row[name]) for name in ("p", "p_holm", "p_mcnemar"))
        flips = "" if row["only_first"] is None else f"{row['only_first']:>4} against {row['only_second']}"
        points = f"{100 * row['difference']:+.1f}"
        lines.append(line(row["dataset"], answer, row["subset"], points, ends, p, corrected, exact, flips))
    return lines


def arrow(ways: Pair) -> str:
    """The two ways that are compared, or the one where both are the same."""
    return ways[0] if ways[0] == ways[1] else f"{ways[0]}→{ways[1]}"


def _p(value: float | None) -> str:
    return "" if value is None else "<.001" if value < 0.001 else f"{value:.3f}"


def flipped_images(
    scored: ScoredPredictions, names: Pair, ways: Pair, classes: tuple[pl.DataFrame, pl.DataFrame]
) -> pl.DataFrame:
    """Test images that only one of two models has right: image, class, subset, both answers, and which is right.

    Args:
        scored: of both models.
        ways: the way to answer of each model.
        classes: the table of classes of each run, with the names of its answers; the first one has those of the truth.
    """
    answers = []
    for name, answer, side, table in zip(names, ways, ("first", "second"), classes, strict=True):
        expression = way(answer).answer
        assert expression is not None, f"{answer} gives no single class"
        rows = scored.test.filter(model=name).select(
            "dataset", "image_id", "subset", "class_id", expression.alias(side)
        )
        labels = table.select("dataset", pl.col("class_id").alias(side), pl.col("name").alias(f"{side}_class"))
        answers.append(rows.join(labels, on=["dataset", side], how="left"))
    truth = classes[0].select("dataset", "class_id", truth="name")
    both = answers[0].join(answers[1].select("image_id", "second", "second_class"), on="image_id")
    first, second = (pl.col(side).eq_missing(pl.col("class_id")) for side in ("first", "second"))
    return (
        both.filter(first != second)
        .join(truth, on=["dataset", "class_id"], how="left")
        .select(
            *("dataset", "image_id", "subset", "class_id", "truth"),
            *("first", "first_class", "second", "second_class"),
            right=pl.when(first).then(pl.lit("first")).otherwise(pl.lit("second")),
        )
        .sort("right", "dataset", "image_id")
    )


def flip_lines(flips: pl.DataFrame, names: Pair, answer: str) -> list[str]:
    """How many images only one of two models has right, and the first of them with their truth and both answers."""
    several, lines = flips["dataset"].n_unique() > 1, []
    for side, name in zip(("first", "second"), names, strict=True):
        rows = flips.filter(right=side)
        lines.append(f"{answer}, right in {name} only: {counted(rows.height, 'image')}")
        for row in rows.head(SHOWN).iter_rows(named=True):
            answers = "; ".join(
                f"{label}: {row[f'{place}_class'] or 'no class'}"
                for label, place in zip(names, ("first", "second"), strict=True)
            )
            dataset = f"{row['dataset']} " if several else ""
            lines.append(f"  {dataset}{row['image_id']}  {row['truth']}; {answers}")
        if rows.height > SHOWN:
            lines.append(f"  and {rows.height - SHOWN} more; --flips writes all of them")
    return lines
