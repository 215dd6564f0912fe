"""Random pictures of every mode that Pillow knows, and the mean that each must keep."""

import io
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image

MODES = (
    "1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "RGBX", "RGBa", "La",
    "I;16", "I;16L", "I;16B", "I;16N",
)  # fmt: skip
FORMATS = {
    "1": ("PNG", "TIFF", "BMP"),
    "L": ("PNG", "TIFF", "BMP", "JPEG", "GIF"),
    "P": ("PNG", "TIFF", "GIF"),
    "RGB": ("PNG", "TIFF", "BMP", "JPEG", "WEBP", "AVIF"),
    "RGBA": ("PNG", "TIFF", "WEBP"),
    "LA": ("PNG", "TIFF"),
    "PA": ("TIFF",),
    "CMYK": ("TIFF", "JPEG"),
    "YCbCr": ("TIFF",),
    "LAB": ("TIFF",),
    "I": ("TIFF",),
    "F": ("TIFF",),
    "I;16": ("PNG", "TIFF"),
    "I;16B": ("TIFF",),
}
"""By mode the formats that hold it."""

LARGEST = {"I": (255, 65_535, 2**31 - 1), "F": (1, 255, 65_535)}
"""By mode the largest values of the ranges that are usual."""


@dataclass(frozen=True)
class Example:
    """A picture of `mode` and the means of red, green and blue that it must keep, from 0 to 255."""

    mode: str
    picture: Image.Image
    means: tuple[float, float, float]

    def file(self, kind: str) -> bytes:
        buffer = io.BytesIO()
        settings = {
            "JPEG": {"quality": 100, "subsampling": 0},
            "WEBP": {"lossless": True},
            "AVIF": {"quality": 100, "subsampling": "4:4:4"},
        }
        self.picture.save(buffer, kind, **settings.get(kind, {}))
        return buffer.getvalue()


def example(mode: str, seed: int) -> Example:
    """Noise, a ramp, or a plain area of at most 40 × 40 pixels; bright enough that 8 bits hold it."""
    rng = np.random.default_rng(seed)
    width, height = (int(side) for side in rng.integers(1, 41, 2))
    shape = (height, width)

    def band() -> np.ndarray:
        """Values from 0 to 1."""
        match random.Random(int(rng.integers(2**32))).choice(("noise", "ramp", "plain")):
            case "noise":
                return rng.random(shape)
            case "ramp":
                return np.linspace(0, 1, width * height).reshape(shape)
        return np.full(shape, rng.random())

    def levels() -> np.ndarray:
        return np.rint(band() * 255).astype(np.uint8)

    def of(colours: list[np.ndarray], picture: Image.Image) -> Example:
        red, green, blue = (float(colour.mean()) for colour in colours)
        return Example(mode, picture, (red, green, blue))

    def on_white(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        return 255 - (255.0 - values) * (alpha / 255.0)

    match mode:
        case "1":
            bits = levels() > 127
            return of([bits * 255.0] * 3, Image.fromarray(bits))
        case "L":
            grey = levels()
            return of([grey] * 3, Image.fromarray(grey))
        case "I;16" | "I;16L" | "I;16B" | "I;16N":
            values = np.rint((0.1 + 0.9 * band()) * 65_535).astype({"I;16B": ">u2"}.get(mode, "<u2"))
            return of([values / 257] * 3, Image.frombytes(mode, (width, height), values.tobytes()))
        case "I" | "F":
            largest = LARGEST[mode][int(rng.integers(3))]
            values = (0.1 + 0.9 * band()) * largest
            values.flat[0] = largest  # so that the range can be known
            values = np.rint(values).astype(np.int32) if mode == "I" else values.astype(np.float32)
            return of([values.astype(float) * (255 / largest)] * 3, Image.fromarray(values))
        case "P":
            palette = rng.integers(0, 256, (256, 3)).astype(np.uint8)
            picture = Image.fromarray(index := levels())
            picture.putpalette(palette.tobytes())
            return of(list(np.moveaxis(palette[index], -1, 0)), picture)
        case "PA":
            picture = Image.new("PA", (width, height))
            palette = rng.integers(0, 256, (256, 3)).astype(np.uint8)
            picture.putpalette(palette.tobytes())
            index, alpha = levels(), levels()
            picture = Image.frombytes("PA", (width, height), np.stack([index, alpha], -1).tobytes())
            picture.putpalette(palette.tobytes())
            return of([on_white(palette[index][..., n], alpha) for n in range(3)], picture)
        case "LA" | "La":
            grey, alpha = levels(), levels()
            shown = on_white(grey, alpha)
            grey = grey if mode == "LA" else np.rint(grey * (alpha / 255)).astype(np.uint8)
            return of([shown] * 3, Image.frombytes(mode, (width, height), np.stack([grey, alpha], -1).tobytes()))
        case "RGBA" | "RGBa":
            colours, alpha = [levels() for _ in range(3)], levels()
            shown = [on_white(colour, alpha) for colour in colours]
            if mode == "RGBa":
                colours = [np.rint(colour * (alpha / 255)).astype(np.uint8) for colour in colours]
            return of(shown, Image.frombytes(mode, (width, height), np.stack([*colours, alpha], -1).tobytes()))
        case "RGB" | "RGBX":
            colours = [levels() for _ in range(3)]
            bands = [*colours, levels()][: len(mode)]
            return of(colours, Image.frombytes(mode, (width, height), np.stack(bands, -1).tobytes()))
        case "CMYK":
            bands = [levels() for _ in range(4)]
            shown = [(255.0 - ink) * (255.0 - bands[3]) / 255 for ink in bands[:3]]
            return of(shown, Image.frombytes(mode, (width, height), np.stack(bands, -1).tobytes()))
        case "YCbCr":
            grey = levels()
            neutral = np.full(shape, 128, np.uint8)
            picture = Image.frombytes(mode, (width, height), np.stack([grey, neutral, neutral], -1).tobytes())
            return of([grey] * 3, picture)
        case "LAB":
            lightness = levels()
            neutral = Image.new("L", (width, height), 128)
            picture = Image.merge("LAB", (Image.fromarray(lightness), neutral, neutral))
            return of([255 * srgb_of_lightness(lightness * (100 / 255))] * 3, picture)
        case "HSV":
            value = levels()
            empty = np.zeros(shape, np.uint8)
            return of(
                [value] * 3, Image.frombytes(mode, (width, height), np.stack([empty, empty, value], -1).tobytes())
            )
    raise ValueError(mode)


def srgb_of_lightness(lightness: np.ndarray) -> np.ndarray:
    """CIE L* from 0 to 100 as sRGB from 0 to 1, of a neutral colour."""
    steps = (lightness + 16) / 116
    linear = np.where(lightness > 8, steps**3, lightness / 903.3)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
