"""What a reader should know before trusting the numbers of a run: few images, failures, letters, confidence, seed."""

from typing import Any

import polars as pl

FEW = 100  # images of a half
FAILURES = 0.01  # share of second questions that end without a letter
LETTERS = 0.1  # share of the questions in which letters other than the truth's are preferred
OFF_LIST = 0.05  # share of the draws that name no class
FLIPS = 0.25  # share of the questions in which the order of the options decides
SURE, SATURATED = 0.99, 0.9  # a confidence that leaves no doubt, and the share of the questions that have one

ONE_SEED = (
    "One training with one seed: the intervals tell of other classes, not of another training, which can come out "
    "otherwise. To train with several: python -m pipeline suite."
)

TITLES = {"base": "Before training", "trained": "After training"}
ALONE = {"base": "Base model"}


def titles(scores: dict[str, Any]) -> dict[str, str]:
    """What the page calls the models that were scored, in order."""
    return TITLES if "trained" in scores else ALONE


def cautions(
    scores: dict[str, Any],
    differences: pl.DataFrame,
    letters: pl.DataFrame,
    predictions: pl.DataFrame,
    trained: bool = True,
) -> list[str]:
    """A sentence for each, none where there is nothing to warn of.

    Args:
        scores: metrics.json.
        differences, letters: the CSV files of these names.
        predictions: of the split "test".
        trained: whether there was a training to speak of.
    """
    models = titles(scores)
    return [
        *_few_images(scores[list(models)[-1]]["two_step"]),
        *(_too_few_to_tell(differences) if trained else []),
        *(said for m, title in models.items() for said in _failures(title, scores[m].get("status", {}))),
        *(said for m, title in models.items() for said in _letter_bias(title, letters.filter(model=m))),
        *(said for m, title in models.items() for said in _flips(title, scores[m]["letter_choice"])),
        *(said for m, title in models.items() for said in _saturated(title, predictions.filter(model=m))),
        *(said for m, title in models.items() for said in _off_list(title, predictions.filter(model=m))),
        *([ONE_SEED] if trained and "trained" in models else []),
    ]


def _few_images(two_step: dict[str, Any]) -> list[str]:
    few = [
        f"{two_step[f'n_{subset}']} of {subset} classes"
        for subset in ("base", "novel")
        if 0 < two_step[f"n_{subset}"] < FEW
    ]
    return [f"Few test images: {' and '.join(few)}. Look at the intervals first."] if few else []


def _too_few_to_tell(differences: pl.DataFrame) -> list[str]:
    """Of the halves for which the interval of what training did covers 0."""
    rows = differences.filter(first="base two_step", second="trained two_step", dataset="all")
    said = []
    for row in rows.filter(pl.col("part").is_in(["base", "novel"])).iter_rows(named=True):
        if row["low"] is None or not row["low"] <= 0 <= row["high"]:
            continue
        enough = "" if row["detectable"] is None else f": {row['n']} images show {100 * row['detectable']:.1f} or more"
        said.append(
            f"What training did on {row['part']} classes cannot be told from nothing, {100 * row['difference']:+.1f} "
            f"points ({100 * row['low']:+.1f} to {100 * row['high']:+.1f}){enough}."
        )
    return said


def _failures(title: str, status: dict[str, int]) -> list[str]:
    failed = sum(count for name, count in status.items() if name != "ok")
    if failed <= FAILURES * sum(status.values()):
        return []
    kinds = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in status.items() if name != "ok")
    return [f"{title}: {failed} of {sum(status.values())} second steps gave no letter ({kinds})."]


def _letter_bias(title: str, letters: pl.DataFrame) -> list[str]:
    """The total variation between where the truth stands and what is chosen."""
    if not letters.height or not letters["truth"].sum() or not letters["chosen"].sum():
        return []
    shares = letters.select("letter", *(pl.col(name) / pl.col(name).sum() for name in ("chosen", "truth")))
    apart = shares.with_columns(more=pl.col("chosen") - pl.col("truth"))
    if float(apart["more"].abs().sum()) / 2 <= LETTERS:
        return []
    row = apart.sort("more").row(-1, named=True)
    return [
        f"{title}: it prefers the letter {row['letter']}, chosen in {row['chosen']:.0%} of the questions, "
        f"where the truth stands in {row['truth']:.0%}."
    ]


def _flips(title: str, choice: dict[str, Any]) -> list[str]:
    if choice["flips"] <= FLIPS:
        return []
    return [f"{title}: in {choice['flips']:.0%} of the questions another order of the options gives another answer."]


def _saturated(title: str, predictions: pl.DataFrame) -> list[str]:
    sure = predictions["choice_probability"].drop_nulls()
    if not sure.len() or (share := (sure >= SURE).sum() / sure.len()) <= SATURATED:
        return []
    return [
        f"{title}: in {share:.0%} of the questions the model gives its letter a probability of {SURE:g} or more, "
        "right or wrong: do not read it as confidence."
    ]


def _off_list(title: str, predictions: pl.DataFrame) -> list[str]:
    draws = predictions["draws"].explode()
    share = draws.null_count() / max(1, len(draws))
    return [f"{title}: {share:.0%} of the draws name no class of the list."] if share > OFF_LIST else []
