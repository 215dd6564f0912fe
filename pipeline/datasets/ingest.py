"""Ingests pictures as the tables hold them: upright, RGB, JPEG or PNG, of limited size."""

import io
from dataclasses import dataclass
from typing import Any

from pipeline.core.pictures import PictureError
from pipeline.datasets.formats import FORMATS, HEIC_HINT, is_heic, reads_heic
from pipeline.datasets.pixels import to_rgb

MOST_PIXELS = 178_956_970  # Pillow's own limit: a larger one is a mistake, or meant to exhaust memory
UNCHANGED_FORMATS = ("JPEG", "PNG")
JPEG_QUALITY = 95
HASH_SIDE = 16  # of the square of lowest frequencies that the perceptual hash tells the signs of
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright


@dataclass(frozen=True)
class IngestedPicture:
    """A picture as the tables hold it; width and height in pixels.

    `perceptual_hash` has 256 bits, in hexadecimal. It hardly changes with size, compression and brightness, more with
    cropping, and says nothing of a picture that was mirrored. `thumbnail` is that of thumbnails.thumbnail.
    """

    image: bytes
    width: int
    height: int
    perceptual_hash: str
    thumbnail: bytes


def ingest(image: bytes, max_pixels: int, crop_bottom: int = 0) -> IngestedPicture:
    """The picture in `image` as the tables hold it: the same bytes if they will do.

    Turned as its EXIF orientation says, transparency on white, more than 8 bits scaled to 8, the lowest `crop_bottom`
    rows of pixels cut off, scaled down to `max_pixels` where it has more; written anew, as JPEG of quality 95 or as
    PNG, only where one of these or the format asks for it.

    Raises:
        PictureError: no whole picture, too large a one, or values that 8 bits do not hold.
    """
    try:
        return _ingest(image, max_pixels, crop_bottom)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise nearly anything over damaged bytes
        raise PictureError.of(error) from error


def _ingest(image: bytes, max_pixels: int, crop_bottom: int) -> IngestedPicture:
    from PIL import Image, ImageOps

    picture = _open(image)
    picture.load()  # the whole of it: a cut-off file is an error here
    format_name, is_upright = picture.format, picture.getexif().get(ORIENTATION, 1) in (0, 1)
    width, height = picture.size
    fits = width * (height - crop_bottom) <= max_pixels
    is_plain = picture.mode == "RGB" and not picture.has_transparency_data
    if format_name in UNCHANGED_FORMATS and is_plain and is_upright and fits and not crop_bottom:
        return _ingested(image, picture)
    upright = to_rgb(ImageOps.exif_transpose(picture), picture)
    if crop_bottom:
        if upright.height <= crop_bottom:
            raise ValueError(f"{upright.height} rows of pixels, of which the lowest {crop_bottom} would be cut off")
        upright = upright.crop((0, 0, upright.width, upright.height - crop_bottom))
    if not fits:
        scale = (max_pixels / (upright.width * upright.height)) ** 0.5
        # A side never shrinks to nothing, so the other one may have to give more.
        width = max(1, int(upright.width * scale))
        height = max(1, min(int(upright.height * scale), max_pixels // width))
        upright = upright.resize((min(width, max_pixels // height), height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # Without the old file's metadata: its orientation would turn the picture again.
    upright.info.clear()
    if format_name == "PNG":
        upright.save(buffer, "PNG")
    else:
        upright.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return _ingested(buffer.getvalue(), upright)


def _ingested(image: bytes, rgb: Any) -> IngestedPicture:
    from pipeline.datasets.thumbnails import thumbnail

    return IngestedPicture(image, rgb.width, rgb.height, _perceptual_hash(rgb), thumbnail(rgb))


def _perceptual_hash(picture: Any) -> str:
    from imagehash import phash

    # Whole pixels first: twice as fast, and the hash looks at 64 × 64 of them anyway.
    grey = picture.convert("L")
    return str(phash(grey.reduce(max(1, min(grey.size) // 128)), hash_size=HASH_SIDE))


def _open(image: bytes) -> Any:
    from PIL import Image

    formats = list(FORMATS)
    if reads_heic():
        from pillow_heif import register_heif_opener

        register_heif_opener()
        formats.append("HEIF")
    elif is_heic(image):
        raise ValueError(HEIC_HINT)
    picture = Image.open(io.BytesIO(image), formats=formats)
    if picture.width * picture.height > MOST_PIXELS:
        raise ValueError(f"{picture.width} × {picture.height} pixels, more than {MOST_PIXELS:,}")
    return picture
