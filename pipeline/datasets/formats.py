"""The formats of pictures that are read, and what is said of the others."""

from collections.abc import Mapping
from importlib.util import find_spec

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Names of Pillow. The reader of JPEG opens MPO as well."""

HEIC_SUFFIXES = (".heic", ".heif")
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", *HEIC_SUFFIXES)

HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
HEIC_HINT = "HEIC is read once pillow-heif is installed: `pip install pillow-heif`"


def reads_heic() -> bool:
    """Whether pillow-heif is installed."""
    return find_spec("pillow_heif") is not None


def is_read(suffix: str) -> bool:
    """Whether files of this suffix, in lower case with its dot, are read as pictures."""
    return suffix in SUFFIXES and (suffix not in HEIC_SUFFIXES or reads_heic())


def is_heic(image: bytes) -> bool:
    """Whether this is the content of a HEIC file."""
    return image[4:8] == b"ftyp" and image[8:12] in HEIC_BRANDS


def unread_line(counts: Mapping[str, int]) -> str:
    """How many files are of no format that is read, by suffix; for HEIC, what to install."""
    by_number = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kinds = ", ".join(f"{suffix or 'no suffix'} {count}" for suffix, count in by_number)
    hint = f"; {HEIC_HINT}" if any(suffix in counts for suffix in HEIC_SUFFIXES) else ""
    return f"files skipped, of no format that is read: {sum(counts.values())} ({kinds}){hint}"
