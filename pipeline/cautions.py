"""What a reader should know before trusting the numbers of a run: few images, failures, letters, drifting halves."""

from typing import Any

import polars as pl

FEW = 100  # images of a half
FAILURES = 0.01  # share of second questions that end without a letter
LETTERS = 0.1  # share of the questions in which letters other than the truth's are preferred
OFF_LIST = 0.05  # share of the draws that name no class


def cautions(
    scores: dict[str, Any], differences: pl.DataFrame, letters: pl.DataFrame, predictions: pl.DataFrame
) -> list[str]:
    """A sentence for each, none where there is nothing to warn of.

    Args:
        scores: metrics.json.
        differences, letters: the CSV files of these names.
        predictions: of the split "test".
    """
    models = [model for model in ("base", "trained") if model in scores]
    return [
        *_few_images(scores[models[-1]]["two_step"]),
        *_too_few_to_tell(differences),
        *(said for model in models for said in _failures(model, scores[model].get("status", {}))),
        *(said for model in models for said in _letter_bias(model, letters.filter(model=model))),
        *(said for model in models for said in _off_list(model, predictions.filter(model=model))),
    ]


def _few_images(two_step: dict[str, Any]) -> list[str]:
    few = [
        f"{two_step[f'n_{half}']} of {half} classes" for half in ("base", "novel") if 0 < two_step[f"n_{half}"] < FEW
    ]
    return [f"Few test images: {' and '.join(few)}. Look at the intervals first."] if few else []


def _too_few_to_tell(differences: pl.DataFrame) -> list[str]:
    rows = differences.filter(first="base two_step", second="trained two_step", dataset="all")
    said = []
    for row in rows.filter(pl.col("part").is_in(["base", "novel"])).iter_rows(named=True):
        if row["detectable"] is not None and abs(row["difference"]) < row["detectable"]:
            said.append(
                f"Too few images to tell what training did on {row['part']} classes: {100 * row['difference']:+.1f} "
                f"points measured, {row['n']} images show {100 * row['detectable']:.1f} or more."
            )
    return said


def _failures(model: str, status: dict[str, int]) -> list[str]:
    failed = sum(count for name, count in status.items() if name != "ok")
    if failed <= FAILURES * sum(status.values()):
        return []
    kinds = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in status.items() if name != "ok")
    return [f"{_title(model)}: {failed} of {sum(status.values())} second steps gave no letter ({kinds})."]


def _letter_bias(model: str, letters: pl.DataFrame) -> list[str]:
    """The total variation between where the truth stands and what is chosen."""
    if not letters.height or not letters["truth"].sum() or not letters["chosen"].sum():
        return []
    shares = letters.select("letter", *(pl.col(name) / pl.col(name).sum() for name in ("chosen", "truth")))
    apart = shares.with_columns(more=pl.col("chosen") - pl.col("truth"))
    if float(apart["more"].abs().sum()) / 2 <= LETTERS:
        return []
    row = apart.sort("more").row(-1, named=True)
    return [
        f"{_title(model)}: it prefers the letter {row['letter']}, chosen in {row['chosen']:.0%} of the questions, "
        f"where the truth stands in {row['truth']:.0%}."
    ]


def _off_list(model: str, predictions: pl.DataFrame) -> list[str]:
    draws = predictions["draws"].explode()
    share = draws.null_count() / max(1, len(draws))
    return [f"{_title(model)}: {share:.0%} of the draws name no class of the list."] if share > OFF_LIST else []


def _title(model: str) -> str:
    return {"base": "Base model", "trained": "Trained model"}[model]
