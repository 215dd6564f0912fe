"""Charts in SVG without script; colours come from the page's style sheet.

Curves also differ in their dashes and in the shapes of their marks, so that they can be read without colours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isclose, log10

from markupsafe import Markup

from pipeline.reporting.training_log import Points

LEFT, RIGHT, TOP, BOTTOM = 42, 308, 26, 166  # edges of the plot area, in units of the drawing
WIDE_RIGHT = 1030  # right edge of a chart over the whole width of the page


@dataclass(frozen=True)
class Chart:
    """A drawing, which may be empty, and the caption beneath it."""

    title: str
    caption: str
    svg: Markup


def running_mean(points: Points, window: int) -> Points:
    """The mean step and the mean value of every `window` consecutive points."""
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
    """The plot area of a chart: its ranges in units of the data, its edges in units of the drawing."""

    x: tuple[float, float]
    y: tuple[float, float]
    right: float = RIGHT
    bottom: float = BOTTOM

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The place of a point in the drawing."""
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

    def drawing(self, label: str, parts: Sequence[Markup]) -> Markup:
        """The SVG element; `label` is what screen readers say of it."""
        svg = '<svg viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>'
        return Markup(svg).format(self.right + 12, self.bottom + 42, label, Markup("").join(parts))


def line_chart(title: str, unit: str, points: Points) -> Chart:
    """A chart of at least one point: the values as a thin line, their running mean as a thick one.

    The mean is over a tenth of the points; the caption gives it for the first and the last tenth.
    """
    steps, values = [step for step, _ in points], [value for _, value in points]
    window = max(1, len(points) // 10)
    means, y_ticks = running_mean(points, window), ticks(min(values), max(values))
    frame = Frame((steps[0], steps[-1]), (y_ticks[0], y_ticks[-1]))
    # The axis begins with the first step: an empty strip before it would look like missing data.
    x_ticks = [step for step in ticks(*frame.x) if steps[0] <= step <= steps[-1]] or [steps[0]]
    parts = frame.axes(unit, "optimiser step", x_ticks, y_ticks)
    for kind, curve in (("raw", points), ("mean", means)):
        parts.append(Markup('<path class="{}" d="{}"/>').format(kind, frame.path(curve)))
    summary = f"{means[0][1]:.3g} {_in(steps[:window])}, {means[-1][1]:.3g} {_in(steps[-window:])}"
    return Chart(title, summary, frame.drawing(f"{title}, {unit}: {summary}", parts))


@dataclass(frozen=True)
class Series:
    """One of several curves.

    Attributes:
        look: classes of the style sheet, such as "of-trained on-novel".
        shape: of its marks: "circle", "square" or "triangle".
    """

    name: str
    look: str
    points: Points
    shape: str = "circle"


MARKS = 12  # at most, on a curve
SHAPES = {
    "circle": Markup('<circle class="mark {look}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'),
    "square": Markup('<rect class="mark {look}" x="{left:.1f}" y="{top:.1f}" width="6" height="6"/>'),
    "triangle": Markup('<path class="mark {look}" d="M{x:.1f} {top:.1f}l3.6 6.6h-7.2z"/>'),
}


def mark(one: Series, x: float, y: float) -> Markup:
    """A mark of the curve at a place of the drawing."""
    return SHAPES[one.shape].format(look=one.look, x=x, y=y, left=x - 3, top=y - 3)


def legend(series: Sequence[Series]) -> list[tuple[str, Markup]]:
    """The names of the curves, each once, with a sample of the line."""
    sample = Markup('<svg viewBox="0 0 46 12" aria-hidden="true"><path class="curve {}" d="M1 6H45"/>{}</svg>')
    return [(one.name, sample.format(one.look, mark(one, 23, 6))) for one in {one.name: one for one in series}.values()]


def curves_chart(
    title: str,
    unit: str,
    across: str,
    series: Sequence[Series],
    caption: str = "",
    diagonal: bool = False,
    shares: bool = False,
) -> Chart:
    """Several curves over the same axes, with at least one point; `legend` gives their names.

    Args:
        unit, across: labels of the vertical and the horizontal axis.
        diagonal: whether to draw the line x = y.
        shares: whether the vertical axis is 0 to 1, whatever the values.
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
        every = ceil(len(one.points) / MARKS)
        parts += [mark(one, *frame.at(*point)) for point in one.points[::every]]
    ends = "; ".join(f"{one.name} {one.points[0][1]:.2f} to {one.points[-1][1]:.2f}" for one in series)
    return Chart(title, caption, frame.drawing(f"{title}, {unit}: {ends}", parts))


ClassAccuracy = tuple[str, Sequence[float]]
"""Name of a class, and its accuracy with each model."""


def worst_first(row: ClassAccuracy) -> tuple[list[float], str]:
    """Sort key of classes: the last model's accuracy, then the one before, then the name."""
    return [*reversed(row[1])], row[0]


def classes_chart(title: str, rows: Sequence[ClassAccuracy], models: Sequence[str]) -> Chart:
    """One column for every class, the worst first: a ring for the first of two models, a full dot for the last one.

    The ring is larger than the dot, so that both are visible at the same place.
    """
    ordered, last = sorted(rows, key=worst_first), models[-1].lower()
    frame = Frame((-0.5, len(ordered) - 0.5), (0.0, 1.0), right=WIDE_RIGHT)
    radius = min(5.5, 0.4 * (WIDE_RIGHT - LEFT) / len(ordered))
    across = f"{len(ordered)} classes, the worst {last} first" if len(models) > 1 else f"{len(ordered)} classes"
    parts = frame.axes("share right", across, [], [0, 0.25, 0.5, 0.75, 1])
    step = Markup('<path class="step" d="M{:.1f} {:.1f}V{:.1f}"/>')
    ring = Markup('<circle class="dot before" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>')
    full = Markup('<circle class="dot after" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>')
    for place, (name, shares) in enumerate(ordered):
        text = ", ".join(f"{share:.0%} {model.lower()}" for share, model in zip(shares, models, strict=True))
        (x, first), (_, after) = frame.at(place, shares[0]), frame.at(place, shares[-1])
        marks = [full.format(x, after, 0.45 * radius)]
        if len(models) > 1:
            marks = [step.format(x, first, after), ring.format(x, first, radius), *marks]
        parts.append(Markup("<g><title>{}: {}</title>{}</g>").format(name, text, Markup("").join(marks)))
    (worst, low), (_, middle), (_, high) = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    summary = f"worst {worst} {low[-1]:.0%}, median {middle[-1]:.0%}, best {high[-1]:.0%}"
    return Chart(title, summary, frame.drawing(f"{title}, share right: {summary}", parts))


def _in(steps: Sequence[float]) -> str:
    return f"in steps {steps[0]:g}–{steps[-1]:g}" if len(steps) > 1 else f"in step {steps[0]:g}"
