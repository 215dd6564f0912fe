"""The training log as line charts in SVG, without script or colours: the page's style sheet dresses them."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isclose, isfinite, log10
from pathlib import Path

from markupsafe import Markup

from pipeline.params import UserError

Points = Sequence[tuple[float, float]]  # (step, value)

CURVES = {
    "answer_reward": ("Answer reward", "share of completions with the right answer"),
    "share_of_groups_without_variance": ("Groups without variance", "share of groups"),
    "entropy": ("Entropy", "nats per token"),
    "completion_length": ("Completion length", "tokens"),
    "kl": ("KL from the base model", "nats per token"),
    "validation_two_step": ("Validation", "share right in two steps, base classes"),
}
"""Columns of the log, with the title and the unit on the page."""

WIDTH, HEIGHT = 320, 208
LEFT, RIGHT, TOP, BOTTOM = 42, 308, 26, 166  # of the plot inside the picture, in its own units


@dataclass(frozen=True)
class Chart:
    """One curve over training: the drawing, and what it says in words."""

    title: str
    summary: str
    svg: Markup


def read_log(path: Path) -> dict[str, Points]:
    """The points of every curve of the training log that has any; empty cells are none. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such file, wanted the log of training; `dvc repro train` writes it")
    rows = csv.DictReader(io.StringIO(path.read_text()))
    again = "`dvc repro train` writes it anew"
    lacking = [name for name in ("step", *CURVES) if name not in (rows.fieldnames or ())]
    if lacking:
        raise UserError(f"{path}: found no column {', '.join(lacking)}, wanted the log of training; {again}")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CURVES}
    for number, row in enumerate(rows, start=2):
        for name, points in found.items():
            try:
                point = (float(row["step"]), float(row[name])) if row[name] else (0.0, float("nan"))
            except ValueError:
                cells = f"step {row['step']!r} with {name} {row[name]!r}"
                raise UserError(f"{path}: line {number} has {cells}, wanted numbers; {again}") from None
            if isfinite(point[1]):
                points.append(point)
    return {name: points for name, points in found.items() if points}


def running_mean(points: Points, window: int) -> Points:
    """The mean step and the mean value of every `window` points that follow one another."""
    spans = [points[start : start + window] for start in range(len(points) - window + 1)]
    return [(sum(step for step, _ in span) / window, sum(value for _, value in span) / window) for span in spans]


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers, evenly spaced, the first at or below `low` and the last at or above `high`."""
    if isclose(low, high, rel_tol=1e-6, abs_tol=1e-12):
        pad = abs(low) * 0.1 or 0.5
        low, high = low - pad, high + pad
    rough = (high - low) / about
    power = 10.0 ** floor(log10(rough))
    step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough * 0.999)
    return [float(f"{n * step:.6g}") for n in range(floor(low / step + 1e-9), ceil(high / step - 1e-9) + 1)]


def line_chart(title: str, unit: str, points: Points) -> Chart:
    """A chart of at least one point: the values as a thin line, their running mean as a thick one.

    The mean is over a tenth of the points; the summary names that of the first tenth and of the last.
    """
    steps, values = [step for step, _ in points], [value for _, value in points]
    window = max(1, len(points) // 10)
    means = running_mean(points, window)
    shown = ticks(min(values), max(values))
    first, last = steps[0], steps[-1]

    def x(step: float) -> float:
        return LEFT + (step - first) / ((last - first) or 1) * (RIGHT - LEFT)

    def y(value: float) -> float:
        return BOTTOM - (value - shown[0]) / (shown[-1] - shown[0]) * (BOTTOM - TOP)

    parts = [Markup('<text class="unit" x="4" y="12">{}</text>').format(unit)]
    grid = Markup('<path class="{}" d="M{} {:.1f}H{}"/><text class="end" x="{}" y="{:.1f}">{:g}</text>')
    for value in shown:
        line = "axis" if value == shown[0] else "grid"
        parts.append(grid.format(line, LEFT, y(value), RIGHT, LEFT - 6, y(value) + 4, value))
    label = Markup('<text class="{}" x="{:.1f}" y="{}">{}</text>')
    # Steps begin where the log does: an empty strip before step 1 would look like missing data.
    for step in [step for step in ticks(first, last) if first <= step <= last] or [first]:
        parts.append(label.format("mid", x(step), BOTTOM + 17, f"{step:g}"))
    parts.append(label.format("unit mid", (LEFT + RIGHT) / 2, HEIGHT - 6, "optimiser step"))
    for kind, curve in (("raw", points), ("mean", means)):
        line = "L".join(f"{x(step):.1f} {y(value):.1f}" for step, value in curve)
        # "h0" makes a line of one point a visible dot.
        parts.append(Markup('<path class="{}" d="M{}h0"/>').format(kind, line))
    summary = f"{means[0][1]:.3g} {_in(steps[:window])}, {means[-1][1]:.3g} {_in(steps[-window:])}"
    svg = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, f"{title}, {unit}: {summary}", Markup("").join(parts)
    )
    return Chart(title, summary, svg)


def _in(steps: Sequence[float]) -> str:
    return f"in steps {steps[0]:g}–{steps[-1]:g}" if len(steps) > 1 else f"in step {steps[0]:g}"
