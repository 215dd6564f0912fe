"""Wrong options that are not the model's own answers: the baselines that the paper compares its options with."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

Embed = Callable[[Sequence[str]], Any]
"""Names → vectors, float array of shape (names, size)."""


@dataclass(frozen=True)
class Distractors:
    """Where wrong options come from: the name of the strategy, and the classes for (image_id, dataset, truth)."""

    name: str
    choose: Callable[[str, str, int], list[int]]


def random_distractors(classes: pl.DataFrame, count: int, seed: int) -> Distractors:
    """For each image `count` base classes of its data set, drawn at random."""
    ids = {dataset: [class_id for class_id, _ in rows] for dataset, rows in _base_classes(classes).items()}
    return Distractors(
        "random", lambda image_id, dataset, truth: random_classes(truth, ids[dataset], count, seed, image_id)
    )


def nearest_distractors(classes: pl.DataFrame, count: int, embed: Embed) -> Distractors:
    """For each image the `count` base classes of its data set whose names are most like the true one's."""
    nearest: dict[tuple[str, int], list[int]] = {}
    for dataset, rows in _base_classes(classes).items():
        places = nearest_classes([name for _, name in rows], count, embed)
        nearest |= {(dataset, rows[i][0]): [rows[j][0] for j in others] for i, others in enumerate(places)}
    return Distractors("text_embedding", lambda image_id, dataset, truth: nearest[dataset, truth])


def random_classes(truth: int, classes: Sequence[int], count: int, seed: int, image_id: str) -> list[int]:
    """`count` other classes, or all there are, drawn for the image."""
    others = [class_id for class_id in classes if class_id != truth]
    return random.Random(f"distractors {seed}/{image_id}").sample(others, min(count, len(others)))


def nearest_classes(names: Sequence[str], count: int, embed: Embed) -> list[list[int]]:
    """For each name the indices of the `count` names most like it by the cosine of their vectors, nearest first."""
    vectors = np.asarray(embed(names), dtype=np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    # Stable, so that equal ones stay in the order of the list.
    order = np.argsort(-likeness, axis=1, kind="stable")[:, : min(count, len(names) - 1)]
    return [row.tolist() for row in order]


def _base_classes(classes: pl.DataFrame) -> dict[str, list[tuple[int, str]]]:
    """Id and name of the base classes, by data set."""
    base = classes.filter(subset="base").group_by("dataset", maintain_order=True)
    return {str(dataset): rows.select("class_id", "name").rows() for (dataset,), rows in base}
