"""Statistics of the questions of each round, and the overlap of its options with those of the round before."""

import csv
import io
from typing import Any

import polars as pl


def round_statistics(questions: pl.DataFrame, hard: int, before: pl.DataFrame | None) -> dict[str, Any]:
    """Counts and means over all questions of a round, `hard` of which are kept for training.

    jaccard: mean over the shared images of |A ∩ B| / |A ∪ B| for the options of this and the previous round; None for
    the first.
    """
    right, valid = int(questions["truth_votes"].sum()), int(questions["valid_draws"].sum())
    return {
        "questions": questions.height,
        "hard": hard,
        "options": _rounded(questions["options"].list.len().mean()),
        "pass@1": _rounded(right / max(1, valid)),
        "pass@K": _rounded((questions["truth_votes"] > 0).mean()),
        "distinct": _rounded(questions["distinct"].mean()),
        "jaccard": None if before is None else _jaccard(before, questions),
    }


def _jaccard(before: pl.DataFrame, after: pl.DataFrame) -> float | None:
    first, second = _option_sets(before), _option_sets(after)
    overlaps = [len(ids & second[i]) / len(ids | second[i]) for i, ids in first.items() if i in second]
    return _rounded(sum(overlaps) / len(overlaps)) if overlaps else None


def _option_sets(questions: pl.DataFrame) -> dict[str, frozenset[int]]:
    rows = questions.select("image_id", "options").iter_rows()
    return {image_id: frozenset(option["class_id"] for option in options) for image_id, options in rows}


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)


def rounds_table(rounds: list[dict[str, Any]]) -> str:
    """The rounds as CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, rounds[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rounds)
    return out.getvalue()
