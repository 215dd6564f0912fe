"""How often the 95 % intervals contain the truth: `python bench/intervals.py` prints the table of coverage.

Simulated test sets of known accuracy: classes (or groups of classes) have their own accuracies, drawn from a beta
distribution around the level, and their images are right or wrong by it. The correlation of two images of a class is
1 / (1 + concentration). Every row is one kind of number at one number of classes; the columns are levels of accuracy.
A share of a few images near 0 or 1 takes few values, so that its coverage cannot be closer to 95 %.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.evaluation.blocks import Block, Blocks
from pipeline.evaluation.estimates import Floats, harmonic_means
from pipeline.evaluation.intervals import difference_interval, p_value, share_interval

LEVELS = (0.05, 0.2, 0.5, 0.8, 0.93, 0.95, 0.98)
CLUSTERS = (4, 6, 8, 12, 24, 50, 100, 200)
IMAGES = (6, 12, 30)  # of a class
CONCENTRATIONS = (6.0, 20.0)  # correlations 0.14 and 0.05
LOSS, LOSS_CONCENTRATION = 0.05, 8.0
SPREAD = 0.1  # standard deviation by class of what only one of two models finds hard

RESULTS = Path(__file__).parent / "results" / "intervals.md"


def block(rng: np.random.Generator, shares: Floats, images: int | list[int]) -> Block:
    """A block of simulated sets, one a column: `shares`, (sets, classes, models), are the accuracies of its classes.

    `images` of each class, or one number for each.
    """
    sets, classes, models = shares.shape
    sizes = np.full(classes, images) if isinstance(images, int) else np.array(images)
    of_images = np.repeat(shares.transpose(1, 2, 0), sizes, axis=0)
    drawn = rng.random((len(of_images), models, sets)) < of_images
    starts = np.cumsum(sizes) - sizes
    return Block(drawn.reshape(-1, models * sets).astype(float), starts)


def unequal(classes: int, images: int) -> list[int]:
    """Images of groups of unequal size, the second half as large as the first, the third a third …, as in CUB."""
    return [round(images * classes / rank) for rank in range(1, classes + 1)]


def class_shares(rng: np.random.Generator, sets: int, classes: int, level: float, concentration: float) -> Floats:
    """(sets, classes, 1): accuracies around `level`."""
    return rng.beta(level * concentration, (1 - level) * concentration, (sets, classes))[:, :, None]


def two_models(rng: np.random.Generator, sets: int, classes: int, level: float, concentration: float) -> Floats:
    """(sets, classes, 2): two models that are equally good, each better than the other in some classes."""
    common = class_shares(rng, sets, classes, level, concentration)
    room = np.minimum(common, 1 - common)
    own = np.clip(rng.normal(0, SPREAD, (sets, classes, 1)), -room, room)
    sign = rng.choice([-1.0, 1.0], (sets, classes, 1))
    return np.concatenate([common + sign * own, common - sign * own], axis=2)


def worse_model(rng: np.random.Generator, shares: Floats) -> Floats:
    """(sets, classes, 2): the model with these shares, and one that loses 5 % of its right answers, by class."""
    kept = rng.beta(LOSS_CONCENTRATION * (1 - LOSS), LOSS_CONCENTRATION * LOSS, shares.shape)
    return np.concatenate([shares, shares * kept], axis=2)


def covered(estimate: object, truth: float, level: float = 0.95) -> float:
    low, high = share_interval(estimate, level)  # type: ignore[arg-type]
    return float(((low <= truth) & (truth <= high)).mean())


def covered_difference(pair: Blocks, sets: int, difference: float) -> float:
    first = np.arange(sets)
    estimate = pair.differences(["a"], "base", first, first + sets)
    assert estimate is not None
    low, high = difference_interval(estimate)
    assert (((low > 0) | (high < 0)) == (p_value(estimate) < 0.05)).all()
    return float(((low <= difference) & (high >= difference)).mean())


def coverages(
    rng: np.random.Generator, sets: int, classes: int, images: int, level: float, concentration: float
) -> Iterator[tuple[str, float]]:
    """Coverage of each kind of number at one level."""

    def one(share: float) -> Block:
        return block(rng, class_shares(rng, sets, classes, share, concentration), images)

    single = Blocks({("a", "base"): one(level)})
    yield "share", covered(single.estimate(["a"], "base"), level)
    other = 1 - (1 - level) * 1.5 if level > 0.5 else level * 1.5
    both = Blocks({("a", "base"): one(level), ("a", "novel"): one(other)})
    yield "total", covered(both.estimate(["a"], "total"), (level + other) / 2)
    truth = float(harmonic_means(np.array([level]), np.array([other]))[0])
    yield "harmonic mean", covered(both.estimate(["a"], "hm"), truth)
    if classes <= 50:
        sizes = unequal(classes, images)
        group_shares = class_shares(rng, sets, classes, level, concentration)
        groups = Blocks({("a", "base"): block(rng, group_shares, sizes)})
        yield "share, groups of unequal size", covered(groups.estimate(["a"], "base"), level)
        names = tuple(map(str, range(classes)))
        halves = {("a", s): replace(block(rng, group_shares, images), names=names) for s in ("base", "novel")}
        yield "total, groups in both subsets", covered(Blocks(halves).estimate(["a"], "total"), level)
        yield "harmonic mean, groups in both", covered(Blocks(halves).estimate(["a"], "hm"), level)
        groups = Blocks({("a", "base"): block(rng, two_models(rng, sets, classes, level, concentration), sizes)})
        yield "difference, unequal size", covered_difference(groups, sets, 0.0)
    if classes <= 24:
        five = [str(number) for number in range(5)]
        several = Blocks({(name, subset): one(level) for name in five for subset in ("base", "novel")})
        yield "mean of five sets", covered(several.estimate(five, "base"), level)
        yield "harmonic mean, five sets", covered(several.estimate(five, "hm"), level)
    common = class_shares(rng, sets, classes, level, concentration)
    for kind, shares, difference in (
        ("difference of equals", two_models(rng, sets, classes, level, concentration), 0.0),
        ("difference", worse_model(rng, common), -LOSS * level),
    ):
        yield kind, covered_difference(Blocks({("a", "base"): block(rng, shares, images)}), sets, difference)


def table(sets: int, concentration: float, images: int, seed: int = 0) -> dict[tuple[str, int], list[float]]:
    """Coverage by kind and number of classes, a value for each of LEVELS."""
    rows: dict[tuple[str, int], list[float]] = {}
    for classes in CLUSTERS:
        for level in LEVELS:
            rng = np.random.default_rng([seed, classes, images, round(100 * level), round(concentration)])
            for kind, share in coverages(rng, sets, classes, images, level, concentration):
                rows.setdefault((kind, classes), []).append(share)
    return rows


def markdown(sets: int) -> str:
    """The tables of coverage, in percent."""
    parts = [
        "# Coverage of the 95 % intervals",
        f"By `python bench/intervals.py --sets {sets}`: share of {sets:,} simulated test sets whose interval contains "
        "the true value, in percent.\nClasses of one subset by rows; true accuracy by columns.",
    ]
    shares: dict[str, list[float]] = {}
    for concentration in CONCENTRATIONS:
        for images in IMAGES:
            rows = table(sets, concentration, images)
            for (kind, _), row in rows.items():
                shares.setdefault(kind, []).extend(row)
            parts.append(
                f"## {images} images of a class, correlation {1 / (1 + concentration):.2f}\n\n"
                f"| number | classes | {' | '.join(f'{level:g}' for level in LEVELS)} |\n"
                f"|---|---|{'---|' * len(LEVELS)}\n"
                + "\n".join(
                    f"| {kind} | {classes} | {' | '.join(f'{100 * share:.1f}' for share in row)} |"
                    for (kind, classes), row in sorted(rows.items(), key=lambda item: item[0])
                )
            )
    lines = ["| number | lowest | below 93 | 93 to 97 | above 97 |", "|---|---|---|---|---|"]
    for kind, own in sorted(shares.items()):
        values = np.array(own)
        below, above = (values < 0.93).mean(), (values > 0.97).mean()
        lines.append(f"| {kind} | {100 * values.min():.1f} | {below:.0%} | {1 - below - above:.0%} | {above:.0%} |")
    parts.insert(2, "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=2000, help="simulated test sets for each number")
    text = markdown(parser.parse_args().sets)
    RESULTS.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
