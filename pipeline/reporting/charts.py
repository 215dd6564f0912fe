"""Charts in SVG, without script or colours: the page's style sheet dresses them.

Lines are told apart by their dashes and the shapes of their marks, so that they can be read without colours.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isclose, isfinite, log10
from pathlib import Path

from markupsafe import Markup

from pipeline.core.params import UserError

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

LEFT, RIGHT, TOP, BOTTOM = 42, 308, 26, 166  # of the plot inside the picture, in its own units
BROAD = 1030  # the right edge of a chart over the whole page


@dataclass(frozen=True)
class Chart:
    """A drawing, empty where there is nothing to see, and the words beneath it."""

    title: str
    caption: str
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


@dataclass(frozen=True)
class Frame:
    """The plane of a chart: what its edges mean, in the units of the data and of the drawing."""

    x: tuple[float, float]
    y: tuple[float, float]
    right: float = RIGHT
    bottom: float = BOTTOM

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1)
        up = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1)
        return LEFT + across * (self.right - LEFT), self.bottom - up * (self.bottom - TOP)

    def path(self, points: Points) -> str:
        # "h0" makes a line of one point a visible dot.
        return "M" + "L".join("{:.1f} {:.1f}".format(*self.at(*point)) for point in points) + "h0"

    def axes(self, unit: str, across: str, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> list[Markup]:
        """Grid lines with their values, and the units of both axes."""
        parts = [Markup('<text class="unit" x="4" y="12">{}</text>').format(unit)]
        grid = Markup('<path class="{}" d="M{} {:.1f}H{}"/><text class="end" x="{}" y="{:.1f}">{:g}</text>')
        for value in y_ticks:
            y = self.at(self.x[0], value)[1]
            line = "axis" if value == y_ticks[0] else "grid"
            parts.append(grid.format(line, LEFT, y, self.right, LEFT - 6, y + 4, value))
        label = Markup('<text class="{}" x="{:.1f}" y="{}">{}</text>')
        parts += [label.format("mid", self.at(x, self.y[0])[0], self.bottom + 17, f"{x:g}") for x in x_ticks]
        return [*parts, label.format("unit mid", (LEFT + self.right) / 2, self.bottom + 36, across)]

    def drawing(self, words: str, parts: Sequence[Markup]) -> Markup:
        svg = '<svg viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>'
        return Markup(svg).format(self.right + 12, self.bottom + 42, words, Markup("").join(parts))


def line_chart(title: str, unit: str, points: Points) -> Chart:
    """A chart of at least one point: the values as a thin line, their running mean as a thick one.

    The mean is over a tenth of the points; the summary names that of the first tenth and of the last.
    """
    steps, values = [step for step, _ in points], [value for _, value in points]
    window = max(1, len(points) // 10)
    means, shown = running_mean(points, window), ticks(min(values), max(values))
    frame = Frame((steps[0], steps[-1]), (shown[0], shown[-1]))
    # Steps begin where the log does: an empty strip before step 1 would look like missing data.
    across = [step for step in ticks(*frame.x) if steps[0] <= step <= steps[-1]] or [steps[0]]
    parts = frame.axes(unit, "optimiser step", across, shown)
    for kind, curve in (("raw", points), ("mean", means)):
        parts.append(Markup('<path class="{}" d="{}"/>').format(kind, frame.path(curve)))
    summary = f"{means[0][1]:.3g} {_in(steps[:window])}, {means[-1][1]:.3g} {_in(steps[-window:])}"
    return Chart(title, summary, frame.drawing(f"{title}, {unit}: {summary}", parts))


@dataclass(frozen=True)
class Series:
    """One curve of several: its name, the look that the style sheet gives it, and the shape of its marks.

    The looks are such as "of-trained on-novel"; the shapes "circle", "square" and "triangle".
    """

    name: str
    look: str
    points: Points
    shape: str = "circle"


MARKED = 12  # points of a curve that get a mark, at most
SHAPES = {
    "circle": Markup('<circle class="mark {look}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'),
    "square": Markup('<rect class="mark {look}" x="{left:.1f}" y="{top:.1f}" width="6" height="6"/>'),
    "triangle": Markup('<path class="mark {look}" d="M{x:.1f} {top:.1f}l3.6 6.6h-7.2z"/>'),
}


def mark(one: Series, x: float, y: float) -> Markup:
    """A mark of the curve at this place of a drawing."""
    return SHAPES[one.shape].format(look=one.look, x=x, y=y, left=x - 3, top=y - 3)


def legend(series: Sequence[Series]) -> list[tuple[str, Markup]]:
    """The names of the curves, each once, with a piece of the curve."""
    piece = Markup('<svg viewBox="0 0 46 12" aria-hidden="true"><path class="curve {}" d="M1 6H45"/>{}</svg>')
    return [(one.name, piece.format(one.look, mark(one, 23, 6))) for one in {one.name: one for one in series}.values()]


def curves_chart(
    title: str,
    unit: str,
    across: str,
    series: Sequence[Series],
    caption: str = "",
    diagonal: bool = False,
    shares: bool = False,
) -> Chart:
    """Several curves over the same axes, at least one point; `key` tells which is which.

    Args:
        diagonal: draws the line on which both axes are alike.
        shares: the vertical axis is 0 to 1, whatever the values.
    """
    xs, ys = zip(*(point for one in series for point in one.points), strict=True)
    y_ticks = [0, 0.25, 0.5, 0.75, 1] if shares else ticks(min(ys), max(ys))
    frame = Frame((0.0, 1.0) if diagonal else (min(xs), max(xs)), (y_ticks[0], y_ticks[-1]))
    x_ticks = [0, 0.25, 0.5, 0.75, 1] if diagonal else [x for x in ticks(*frame.x) if frame.x[0] <= x <= frame.x[1]]
    parts = frame.axes(unit, across, x_ticks or [frame.x[0]], y_ticks)
    if diagonal:
        parts.append(Markup('<path class="diagonal" d="{}"/>').format(frame.path([(0, 0), (1, 1)])))
    for one in series:
        parts.append(Markup('<path class="curve {}" d="{}"/>').format(one.look, frame.path(one.points)))
        marked = one.points[:: ceil(len(one.points) / MARKED)]
        parts += [mark(one, *frame.at(*point)) for point in marked]
    ends = "; ".join(f"{one.name} {one.points[0][1]:.2f} to {one.points[-1][1]:.2f}" for one in series)
    return Chart(title, caption, frame.drawing(f"{title}, {unit}: {ends}", parts))


Dots = tuple[str, Sequence[float]]
"""Name of a class, and its accuracy by each model."""


def worst_first(dots: Dots) -> tuple[list[float], str]:
    """The order of classes: by the last model's accuracy, then by the one before it, then by name."""
    return [*reversed(dots[1])], dots[0]


def classes_chart(title: str, dots: Sequence[Dots], models: Sequence[str]) -> Chart:
    """One column for every class, the worst first: a ring for the first of two models, a full dot for the last one.

    The ring is the wider one, so that both are seen where they stand in one place.
    """
    ordered, last = sorted(dots, key=worst_first), models[-1].lower()
    frame = Frame((-0.5, len(ordered) - 0.5), (0.0, 1.0), right=BROAD)
    radius = min(5.5, 0.4 * (BROAD - LEFT) / len(ordered))
    across = f"{len(ordered)} classes, the worst {last} first" if len(models) > 1 else f"{len(ordered)} classes"
    parts = frame.axes("share right", across, [], [0, 0.25, 0.5, 0.75, 1])
    step = Markup('<path class="step" d="M{:.1f} {:.1f}V{:.1f}"/>')
    ring = Markup('<circle class="dot before" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>')
    full = Markup('<circle class="dot after" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>')
    for place, (name, shares) in enumerate(ordered):
        said = ", ".join(f"{share:.0%} {model.lower()}" for share, model in zip(shares, models, strict=True))
        (x, first), (_, after) = frame.at(place, shares[0]), frame.at(place, shares[-1])
        marks = [full.format(x, after, 0.45 * radius)]
        if len(models) > 1:
            marks = [step.format(x, first, after), ring.format(x, first, radius), *marks]
        parts.append(Markup("<g><title>{}: {}</title>{}</g>").format(name, said, Markup("").join(marks)))
    (worst, low), (_, middle), (_, high) = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    summary = f"worst {worst} {low[-1]:.0%}, median {middle[-1]:.0%}, best {high[-1]:.0%}"
    return Chart(title, summary, frame.drawing(f"{title}, share right: {summary}", parts))


def _in(steps: Sequence[float]) -> str:
    return f"in steps {steps[0]:g}–{steps[-1]:g}" if len(steps) > 1 else f"in step {steps[0]:g}"
