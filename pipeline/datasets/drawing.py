"""Draws one bird: the two marks of its species as they must be, everything else about it at random."""

import colorsys
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from pipeline.datasets.species import MARKS, Species

SIZE = 84  # pixels: 6 × 6 patches of 14, nine image tokens after merging 2 × 2
_OVERSAMPLING = 4
_GOLDEN = (5**0.5 - 1) / 2
_LEAF_CHANCE = 0.3

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Bird:
    """What one picture shows. `vividness`, 0–1, is how saturated the plumage is: striking, and telling nothing."""

    species: Species
    marks: dict[str, str]
    vividness: float
    seed: str


def random_bird(species: Species, split: str, number: int) -> Bird:
    """Bird `number` of `species` in `part` (train, test …); the same three give the same bird and the same picture.

    The vividness of the birds of one species and part is spread evenly, by steps of the golden ratio: no species, and
    no half of the classes, gets the easier pictures by luck.
    """
    start = random.Random(f"vividness {species.name} {split}").random()
    rng = random.Random(f"bird {species.name} {split} {number}")
    marks = {mark: rng.choice(forms) for mark, forms in MARKS.items()}
    marks[species.genus.first], marks[species.genus.second] = species.marks
    return Bird(species, marks, (start + number * _GOLDEN) % 1.0, f"{split} {number}")


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


class _Canvas:
    """Draws in the bird's own coordinates (84 units wide), shifted and scaled, at four times the final size."""

    def __init__(self, background: Colour, shift: tuple[float, float], scale: float):
        self.image = Image.new("RGB", (SIZE * _OVERSAMPLING, SIZE * _OVERSAMPLING), background)
        self.pen = ImageDraw.Draw(self.image)
        self.shift, self.scale = shift, scale

    def _at(self, x: float, y: float) -> tuple[float, float]:
        middle = SIZE / 2
        x = (x - middle) * self.scale + middle + self.shift[0]
        y = (y - middle) * self.scale + middle + self.shift[1]
        return x * _OVERSAMPLING, y * _OVERSAMPLING

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        self.pen.ellipse([self._at(x - rx, y - ry), self._at(x + rx, y + ry)], fill=fill)

    def polygon(self, *points: tuple[float, float], fill: Colour) -> None:
        self.pen.polygon([self._at(*point) for point in points], fill=fill)

    def line(self, *points: tuple[float, float], width: float, fill: Colour) -> None:
        self.pen.line([self._at(*point) for point in points], fill=fill, width=round(width * _OVERSAMPLING))


DARK, LIGHT, HORN = (30, 28, 32), (250, 250, 245), (70, 60, 50)


def draw(bird: Bird) -> Image.Image:
    """The picture of `bird`: an RGB image of 84 × 84 pixels."""
    rng = random.Random(f"picture {bird.species.name} {bird.seed}")
    saturation = 0.30 + 0.65 * bird.vividness
    hue = bird.species.genus.hue + rng.uniform(-0.012, 0.012)
    value = rng.uniform(0.68, 0.82)
    plumage, wing = _rgb(hue, saturation, value), _rgb(hue, saturation, value * 0.72)
    belly = _rgb(hue, saturation * 0.3, 0.95)
    canvas = _Canvas(
        _rgb(rng.random(), rng.uniform(0.0, 0.12), rng.uniform(0.82, 0.97)),
        (rng.uniform(-2.5, 2.5), rng.uniform(-2.5, 2.5)),
        rng.uniform(0.94, 1.06),
    )
    perch = rng.uniform(67, 71)
    canvas.line(
        (-10, perch + rng.uniform(-4, 4)),
        (94, perch + rng.uniform(-4, 4)),
        width=3.5,
        fill=_rgb(0.08, 0.5, rng.uniform(0.3, 0.5)),
    )
    for leg in (40, 46):
        canvas.line((leg, 56), (leg + rng.uniform(-2, 2), 69), width=1.6, fill=HORN)
    _tail(canvas, bird.marks["tail"], wing)
    _crest(canvas, bird.marks["crest"], plumage)
    canvas.ellipse(42, 47, 21, 14, plumage)
    canvas.ellipse(49, 51, 13, 9.5, belly)
    canvas.ellipse(60, 30, 12, 11.5, plumage)
    _breast(canvas, bird.marks["breast"])
    _wing(canvas, bird.marks["wing"], wing)
    _bill(canvas, bird.marks["bill"])
    _eye(canvas, bird.marks["eye"])
    if rng.random() < _LEAF_CHANCE:
        _leaf(canvas, rng)
    return canvas.image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def _tail(canvas: _Canvas, form: str, fill: Colour) -> None:
    if form == "fork-tailed":
        canvas.polygon((26, 44), (2, 36), (16, 48), (3, 62), (27, 53), fill=fill)
    elif form == "fan-tailed":
        canvas.polygon((27, 44), (6, 36), (2, 49), (7, 62), (27, 54), fill=fill)
    else:
        canvas.polygon((27, 46), (0, 47.5), (0, 50.5), (27, 53), fill=fill)


def _crest(canvas: _Canvas, form: str, fill: Colour) -> None:
    if form == "high-crested":
        canvas.polygon((52, 25), (50, 5), (67, 22), fill=fill)
    elif form == "tuft-crowned":
        for x in (54, 60, 66):
            canvas.line((60, 24), (x + (x - 60) * 0.5, 12), width=2.2, fill=fill)


def _breast(canvas: _Canvas, form: str) -> None:
    if form == "spot-breasted":
        for x, y in ((52, 48), (57, 49), (54, 53), (49, 54), (59, 53.5), (53, 57.5)):
            canvas.ellipse(x, y, 1.5, 1.5, DARK)
    elif form == "streak-breasted":
        for x in (49, 53, 57, 61):
            canvas.line((x, 45.5), (x - 3, 58), width=1.5, fill=DARK)


def _wing(canvas: _Canvas, form: str, fill: Colour) -> None:
    canvas.ellipse(34, 45, 14, 8.5, fill)
    if form == "bar-winged":
        for x in (30, 38):
            canvas.line((x, 39), (x - 4, 51), width=2.4, fill=LIGHT)
    elif form == "spot-winged":
        for x, y in ((26, 45), (32, 41), (33, 48), (39, 44), (40, 49)):
            canvas.ellipse(x, y, 1.7, 1.7, LIGHT)


def _bill(canvas: _Canvas, form: str) -> None:
    if form == "hook-billed":
        canvas.polygon((70, 26), (78, 27), (81, 31), (80.5, 38), (77, 33), (70, 33), fill=HORN)
    elif form == "thin-billed":
        canvas.polygon((70, 29), (84, 30.2), (84, 31.6), (70, 32), fill=HORN)
    else:
        canvas.polygon((69, 22.5), (80, 31), (69, 38), fill=HORN)


def _eye(canvas: _Canvas, form: str) -> None:
    if form == "ring-eyed":
        canvas.ellipse(63, 28, 4.8, 4.8, LIGHT)
    elif form == "mask-eyed":
        canvas.polygon((50, 26), (70, 24.5), (70, 31.5), (50, 30.5), fill=DARK)
    canvas.ellipse(63, 28, 2.1, 2.1, DARK if form != "mask-eyed" else LIGHT)


def _leaf(canvas: _Canvas, rng: random.Random) -> None:
    """Something in the way: it hides one of the six marks, which may be the one that matters."""
    x, y = rng.choice(((76, 31), (57, 13), (34, 45), (13, 49), (55, 53), (63, 28)))
    fill = _rgb(rng.uniform(0.22, 0.30), 0.55, rng.uniform(0.35, 0.6))
    canvas.polygon(
        (x - 15, y + 2), (x - 5, y - 8), (x + 7, y - 7), (x + 14, y), (x + 4, y + 8), (x - 7, y + 8), fill=fill
    )
    canvas.line((x - 15, y + 2), (x + 13, y), width=0.8, fill=DARK)
