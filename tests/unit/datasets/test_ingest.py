"""Pictures as the tables keep them: the same bytes where they will do, and an error for whatever is no picture."""

import io
import random
import struct
import zlib

import pytest
from PIL import Image

from pipeline.core.pictures import PictureError, picture, size
from pipeline.datasets.ingest import ORIENTATION, ingest

PLENTY = 10**6


def noise(width=40, height=30, mode="RGB", seed=0):
    bands = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, (width, height), random.Random(seed).randbytes(width * height * bands))


def written(image, kind="JPEG", **settings):
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_what_will_do_stays_byte_for_byte(kind):
    content = written(noise(), kind)
    kept = ingest(content, PLENTY)
    assert kept.image is content
    assert (kept.width, kept.height) == (40, 30)
    assert size(content) == (30, 40)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_rotated_as_its_orientation_says(orientation):
    corner = Image.new("RGB", (40, 30), "black")
    corner.paste("white", (0, 0, 20, 15))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    kept = ingest(written(corner, "PNG", exif=exif), PLENTY)
    shown = picture(kept.image)
    # Where the first corner of the stored pixels stands when the picture is upright, by the EXIF standard.
    places = {1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1)}
    bright = [
        (x, y) for x in (0, 1) for y in (0, 1) if shown.getpixel((x * (shown.width - 1), y * (shown.height - 1)))[0]
    ]
    assert bright == [places[orientation]]
    assert shown.size == ((40, 30) if orientation < 5 else (30, 40)) == (kept.width, kept.height)
    assert ingest(kept.image, PLENTY).image is kept.image, "turned once, not again"


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("1", "PNG"), ("RGB", "WEBP"),
     ("P", "GIF"), ("RGB", "BMP"), ("RGB", "TIFF"), ("I;16", "PNG")],
)  # fmt: skip
def test_every_mode_and_format_becomes_rgb(mode, kind):
    source = Image.new("I;16", (40, 30), 77) if mode == "I;16" else noise().convert(mode)
    kept = ingest(written(source, kind), PLENTY)
    shown = Image.open(io.BytesIO(kept.image))
    assert (shown.mode, shown.size) == ("RGB", (40, 30))
    assert shown.format in ("JPEG", "PNG")


def test_transparency_lies_on_white():
    clear = Image.new("RGBA", (10, 10), (255, 0, 0, 0))
    assert picture(ingest(written(clear, "PNG"), PLENTY).image).getpixel((5, 5)) == (255, 255, 255)
    palette = Image.new("P", (10, 10))
    palette.putpalette([0, 0, 255] * 256)
    content = written(palette, "PNG", transparency=0)
    assert picture(ingest(content, PLENTY).image).getpixel((5, 5)) == (255, 255, 255)


def test_the_banner_goes_and_nothing_else():
    image = Image.new("RGB", (40, 30), "white")
    image.paste("black", (0, 10, 40, 30))
    kept = ingest(written(image, "PNG"), PLENTY, crop_bottom=20)
    assert (kept.width, kept.height) == (40, 10)
    assert picture(kept.image).getextrema() == ((255, 255),) * 3
    with pytest.raises(PictureError, match="rows of pixels"):
        ingest(written(image), PLENTY, crop_bottom=30)


@pytest.mark.parametrize(("shape", "limit"), [((400, 300), 1000), ((1000, 1), 100), ((33, 77), 500), ((40, 30), 1199)])
def test_it_is_scaled_down_to_the_limit_and_keeps_its_shape(shape, limit):
    kept = ingest(written(noise(*shape), "PNG"), limit)
    assert kept.width * kept.height <= limit
    if min(kept.width, kept.height) > 10:
        assert kept.width / kept.height == pytest.approx(shape[0] / shape[1], rel=0.1)
    assert ingest(written(noise(40, 30)), 1200).width == 40, "exactly the limit is not too much"


def png(width, height):
    """The head of a PNG of this size, and next to nothing behind it."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "content", [b"", b"GIF", b"not a picture", png(10**5, 10**5), png(2**31 - 1, 1), png(100, 100)]
)
def test_no_picture_is_an_error(content):
    with pytest.raises(PictureError):
        ingest(content, PLENTY)
    with pytest.raises(PictureError):
        picture(content)


def test_a_cut_off_picture_is_an_error():
    content = written(noise(200, 200))
    with pytest.raises(PictureError):
        ingest(content[: len(content) // 2], PLENTY)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_two_thousand_damaged_pictures_are_pictures_or_errors(kind):
    rng = random.Random(kind)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    source = written(noise(24, 18), kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}))
    outcomes = {True: 0, False: 0}
    for _ in range(350):
        damaged = bytearray(source)
        for _ in range(rng.randint(1, 4)):
            match rng.randrange(3):
                case 0:
                    damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
                case 1:
                    del damaged[rng.randrange(len(damaged)) :]
                case 2:
                    place = rng.randrange(len(damaged) + 1)
                    damaged[place:place] = rng.randbytes(rng.randint(1, 8))
            if not damaged:
                break
        try:
            kept = ingest(bytes(damaged), PLENTY)
        except PictureError:
            outcomes[False] += 1
        else:
            outcomes[True] += 1
            assert picture(kept.image).size == (kept.width, kept.height)
            assert kept.width * kept.height <= PLENTY
    assert outcomes[False] > 20, "the damage was seen"


def test_too_many_pixels_are_refused_before_they_are_read():
    """The header of a PNG that claims 20,000 × 20,000 pixels: 1.2 GB, were they there."""
    header = (20_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n"
    for name, content in chunks:
        png += len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")
    with pytest.raises(PictureError, match=r"400000000 pixels\) exceeds limit of 178956970 pixels"):
        ingest(png, 10**6)
