"""Opens pictures."""

import io
from typing import Any


class PictureError(ValueError):
    """There is no picture in these bytes, or one too large to be opened safely."""

    @classmethod
    def of(cls, error: Exception) -> "PictureError":
        """The error of a library, in words that are the same in every run."""
        from PIL import UnidentifiedImageError

        if isinstance(error, UnidentifiedImageError):  # its text has the address of an object
            return cls("picture cannot be opened: of no known format")
        return cls(f"picture cannot be opened: {error or type(error).__name__}")


def picture(image: bytes) -> Any:
    """The RGB picture in `image`, a JPEG or PNG file. Raises PictureError."""
    return _tried(lambda: _opened(image).convert("RGB"))


def size(image: bytes) -> tuple[int, int]:
    """Height and width in pixels, read from the head of the file alone. Raises PictureError."""
    width, height = _tried(lambda: _opened(image).size)
    return height, width


def _opened(image: bytes) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(image))


def _tried(call: Any) -> Any:
    from PIL import Image

    try:
        return call()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError.of(error) from error
