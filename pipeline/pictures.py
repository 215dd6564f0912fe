"""Opens pictures. Raises OSError, ValueError or SyntaxError, as Pillow does, where there is none."""

import io
from typing import Any


def picture(image: bytes) -> Any:
    """The RGB picture in `image`, a JPEG or PNG file."""
    from PIL import Image

    return Image.open(io.BytesIO(image)).convert("RGB")


def size(image: bytes) -> tuple[int, int]:
    """Height and width in pixels, read from the head of the file alone."""
    from PIL import Image

    width, height = Image.open(io.BytesIO(image)).size
    return height, width
