"""Brings pixels of every mode to RGB with 8 bits, and refuses where the picture would not survive it."""

from typing import Any

DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
RANGES = {"I": (255, 65_535, 2**31 - 1), "F": (1, 255, 65_535)}
"""By mode the usual largest values, of which the smallest that holds the picture counts."""

BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # TIFF tags, and a value of the second
FEW_LEVELS = 16  # of the 256: a picture with more levels than these must not end within them


def to_rgb(picture: Any, file: Any) -> Any:
    """`picture` in RGB: transparency on white, more than 8 bits scaled down.

    16 bits are scaled by 65,535 (or the bits that a TIFF states), 32 bits and floating-point numbers by the smallest
    usual range that holds them: `Image.convert` would cut them off at 255.

    Args:
        picture: of any mode of Pillow.
        file: the picture as it was opened, which has the tags of a TIFF.

    Raises:
        ValueError: values outside every range, or so dark a picture that 8 bits do not hold it.
    """
    from PIL import Image

    if picture.mode in DEEP_MODES:
        picture = _eight_bits(picture, getattr(file, "tag_v2", {}))
    elif picture.mode == "LAB":
        picture = _from_lab(picture)
    if picture.has_transparency_data:
        # Premultiplied and paletted modes reach RGBA only by way of another one.
        steps = {"La": "LA", "PA": "RGBA"}
        clear = picture.convert(steps[picture.mode]) if picture.mode in steps else picture
        clear = clear.convert("RGBA")
        picture = Image.new("RGBA", clear.size, "white")
        picture.alpha_composite(clear)
    return picture.convert("RGB")


def _eight_bits(picture: Any, tags: Any) -> Any:
    """Grey with 8 bits, and an opacity where one value is marked as transparent."""
    import numpy as np
    from PIL import Image

    values = np.asarray(picture)
    low, high = float(values.min()), float(values.max())
    if picture.mode in RANGES:
        whole = next((most for most in RANGES[picture.mode] if high <= most), None)
    else:
        whole = 2 ** int(np.max(tags.get(BITS_PER_SAMPLE, 16))) - 1
    if not (np.isfinite(values).all() and low >= 0 and whole is not None and high <= whole):
        ranges = ", ".join(f"0 to {most:,}" for most in RANGES.get(picture.mode, (65_535,)))
        raise ValueError(f"its values go from {low:g} to {high:g}, expected {ranges}; save it with 8 bits")
    levels = np.rint(values.astype(np.float32) * np.float32(255 / whole)).astype(np.uint8)
    if levels.max() <= FEW_LEVELS and len(np.unique(values)) > FEW_LEVELS:
        raise ValueError(f"its values end at {high:g} of {whole:,}, nearly black; save it with 8 bits")
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow inverts pictures of 8 bits only
        levels = 255 - levels
    grey = Image.fromarray(levels)
    if "transparency" in picture.info:
        opaque = np.where(values == picture.info["transparency"], 0, 255).astype(np.uint8)
        return Image.merge("LA", (grey, Image.fromarray(opaque)))
    return grey


def _from_lab(picture: Any) -> Any:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
