"""Every mode of Pillow becomes RGB with the mean it had, or an error: nothing is cut off in silence."""

import io
import random

import numpy as np
import pytest
from PIL import Image
from support.modes import FORMATS, MODES, example

from pipeline.core.pictures import PictureError, picture
from pipeline.datasets.ingest import ingest
from pipeline.datasets.pixels import to_rgb

PLENTY = 10**6
LOSSY = 2.5  # levels that the mean of a small noisy picture may move by where JPEG is written
EXACT = 1.0  # for rounding, twice


def means(shown: Image.Image) -> np.ndarray:
    return np.asarray(shown, float).mean((0, 1))


def written(image: Image.Image, kind: str, **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def test_the_modes_are_all_that_pillow_knows():
    assert set(Image.MODES) <= set(MODES)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_keeps_its_mean(mode):
    for seed in range(8):
        case = example(mode, seed)
        shown = to_rgb(case.picture, case.picture)
        assert shown.mode == "RGB" and means(shown) == pytest.approx(case.means, abs=EXACT), (mode, seed)


def require_means_kept(first: int, count: int) -> None:
    """Files of random mode, format and content, ingested."""
    for seed in range(first, first + count):
        rng = random.Random(seed)
        mode = rng.choice(sorted(FORMATS))
        kind = rng.choice(FORMATS[mode])
        case = example(mode, seed)
        kept = ingest(case.file(kind), PLENTY)
        shown = picture(kept.image)
        assert shown.size == case.picture.size == (kept.width, kept.height)
        assert means(shown) == pytest.approx(case.means, abs=EXACT if kind == "PNG" else LOSSY), (seed, mode, kind)


@pytest.mark.slow
def test_three_hundred_random_pictures_keep_their_mean():
    require_means_kept(0, 300)


@pytest.mark.slow
def test_five_thousand_random_pictures_keep_their_mean():
    require_means_kept(300, 5000)


RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)
DEEP = [
    ((RAMP * 65_535).astype(np.uint16), 127.5, "16 bits"),
    ((RAMP * 65_535).astype(np.int32), 127.5, "16 bits in 32"),
    ((RAMP * 255).astype(np.int32), 127, "8 bits in 32"),
    (RAMP.astype(np.float32), 127.5, "numbers from 0 to 1"),
    ((RAMP * 255).astype(np.float32), 127.5, "numbers from 0 to 255"),
    ((RAMP * 65_535).astype(np.float32), 127.5, "numbers from 0 to 65,535"),
    ((20_000 + RAMP * 20_000).astype(np.uint16), 30_000 / 257, "a part of the range"),
    (np.zeros((64, 64), np.float32), 0, "black"),
]


@pytest.mark.parametrize(("values", "mean", "why"), DEEP, ids=[why for *_, why in DEEP])
def test_deep_pictures_are_scaled_and_not_cut_off(values, mean, why):
    kept = picture(ingest(written(Image.fromarray(values), "TIFF"), PLENTY).image)
    assert means(kept) == pytest.approx([mean] * 3, abs=EXACT)
    if values.max() > 0:
        assert np.asarray(kept, float).std() > 20, "with its contrast"


REFUSED = [
    (RAMP.astype(np.float32) - 0.5, "go from -0.5 to 0.5, expected 0 to 1, 0 to 255, 0 to 65,535"),
    ((RAMP * 1e6).astype(np.float32), "go from 0 to 1e\\+06, expected"),
    (np.where(RAMP > 0.5, np.nan, RAMP).astype(np.float32), "go from nan to nan"),
    ((RAMP * 65_535 - 9).astype(np.int32), "go from -9 to"),
    ((RAMP * 4095).astype(np.uint16), "end at 4095 of 65,535, nearly black; save it with 8 bits"),
]


@pytest.mark.parametrize(("values", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_what_8_bits_do_not_hold_is_an_error(values, reason):
    with pytest.raises(PictureError, match=reason):
        ingest(written(Image.fromarray(values), "TIFF"), PLENTY)


def test_white_is_zero_in_a_deep_tiff_as_in_a_plain_one():
    deep = (RAMP * 20_000).astype(np.uint16)
    kept = ingest(written(Image.fromarray(deep), "TIFF", tiffinfo={262: 0}), PLENTY)
    assert means(picture(kept.image)) == pytest.approx([255 - 10_000 / 257] * 3, abs=EXACT)


def test_a_transparent_colour_lies_on_white_whatever_the_mode():
    red = Image.new("RGB", (9, 9), (200, 0, 0))
    assert means(picture(ingest(written(red, "PNG", transparency=(200, 0, 0)), PLENTY).image)).tolist() == [255] * 3
    deep = Image.fromarray(np.full((9, 9), 30_000, np.uint16))
    assert means(picture(ingest(written(deep, "PNG", transparency=30_000), PLENTY).image)).tolist() == [255] * 3
    assert means(picture(ingest(written(deep, "PNG", transparency=5), PLENTY).image)).tolist() == [117] * 3


def test_a_deep_picture_is_rotated_as_well():
    corner = np.zeros((20, 30), np.uint16)
    corner[:10, :15] = 65_535
    exif = Image.Exif()
    exif[0x0112] = 6
    shown = picture(ingest(written(Image.fromarray(corner), "PNG", exif=exif), PLENTY).image)
    assert shown.size == (20, 30) and shown.getpixel((19, 0)) == (255, 255, 255) and shown.getpixel((0, 0)) == (0, 0, 0)
