"""Thumbnails, by which copies of a picture are recognised: brightness and colours, squeezed into squares."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.datasets.raster import Array, shrunk

Bytes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.intp]

SIDE = 64  # of the brightness, in pixels
COLOUR_SIDE = SIDE // 2
BYTES = SIDE * SIDE + 2 * COLOUR_SIDE * COLOUR_SIDE


@dataclass(frozen=True)
class Thumbnails:
    """Brightness and the two colour differences of some pictures, (pictures, side, side) each, from 0 to 255."""

    brightness: Array
    blue: Array
    red: Array

    @classmethod
    def of(cls, content: Bytes, side: int = SIDE) -> "Thumbnails":
        """From bytes, (pictures, BYTES), as `thumbnail` makes them; no band has more than `side` pixels a side."""
        bands = np.split(content, (SIDE * SIDE, SIDE * SIDE + COLOUR_SIDE * COLOUR_SIDE), axis=1)
        sides = (SIDE, COLOUR_SIDE, COLOUR_SIDE)
        return cls(*(shrunk(band.reshape(-1, n, n), min(n, side)) for band, n in zip(bands, sides, strict=True)))

    def take(self, rows: Rows) -> "Thumbnails":
        return Thumbnails(self.brightness[rows], self.blue[rows], self.red[rows])


def thumbnail(picture: Any) -> bytes:
    """BYTES bytes of an RGB picture: brightness, then the two colour differences at half the side."""
    from PIL import Image

    small = picture.reduce(max(1, min(picture.size) // (2 * SIDE)))  # whole pixels first: faster
    method = Image.Resampling.BOX if min(small.size) >= SIDE else Image.Resampling.BILINEAR
    brightness, *colours = small.resize((SIDE, SIDE), method).convert("YCbCr").split()
    return b"".join([brightness.tobytes(), *(band.reduce(SIDE // COLOUR_SIDE).tobytes() for band in colours)])
