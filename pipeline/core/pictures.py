"""Opens pictures."""

import io
from typing import Any


class PictureError(ValueError):
    """These bytes are no picture, or one too large to open safely."""

    @classmethod
    def of(cls, error: Exception) -> "PictureError":
        """The error of a library, in words that are the same in every run."""
        from PIL import UnidentifiedImageError

        if isinstance(error, UnidentifiedImageError):  # its text has the address of an object
            return cls("picture cannot be read: of no known format")
        return cls(f"picture cannot be read: {error or type(error).__name__}")


def picture(image: bytes) -> Any:
    """The RGB picture in `image`, a JPEG or PNG file. Raises PictureError."""
    return _try(lambda: _open(image).convert("RGB"))


def size(image: bytes) -> tuple[int, int]:
    """Height and width in pixels, read from the head of the file alone. Raises PictureError."""
    width, height = _try(lambda: _open(image).size)
    return height, width


def _open(image: bytes) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(image))


def _try(call: Any) -> Any:
    from PIL import Image

    try:
        return call()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError.of(error) from error
