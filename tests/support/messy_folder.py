"""A folder of photos as people have them: forty kinds of trouble, seeded, and what must become of each."""

import io
import os
import random
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("Grey Heron", "Little_Egret", "Mute Swan")


@dataclass
class Messy:
    """The folder, and what it must give: pictures that are read, rows of status error, and lines of the output."""

    root: Path
    rng: random.Random
    read: set[str] = field(default_factory=set)
    errors: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)

    def picture(self, side: int = 96) -> Image.Image:
        """A photo-like picture that no other is like."""
        small = Image.frombytes("RGB", (12, 12), self.rng.randbytes(432))
        return small.resize((side, side), Image.Resampling.BICUBIC)

    def grey_of_16_bits(self) -> Image.Image:
        return Image.fromarray(np.asarray(self.picture().convert("L")).astype(np.uint16) * 257)

    def put(self, path: str, content: bytes, *, status: str | None = "ok") -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        if status:
            (self.read if status == "ok" else self.errors).add(path)

    def encoded(self, kind: str = "JPEG", picture: Image.Image | None = None, **options) -> bytes:
        file = io.BytesIO()
        (picture or self.picture()).save(file, kind, **options)
        return file.getvalue()


def _place(name: str) -> str:
    return f"{CLASSES[0]}/{name}"


def _exif(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


KINDS: dict[str, Callable[[Messy], object]] = {
    # Pictures that are read.
    "upper-case suffix": lambda m: m.put(_place("A.JPG"), m.encoded()),
    "jfif": lambda m: m.put(_place("b.jfif"), m.encoded()),
    "PNG named jpg": lambda m: m.put(_place("c.jpg"), m.encoded("PNG")),
    "WebP named png": lambda m: m.put(_place("d.png"), m.encoded("WEBP")),
    "AVIF": lambda m: m.put(_place("e.avif"), m.encoded("AVIF")),
    "GIF": lambda m: m.put(_place("f.gif"), m.encoded("GIF")),
    "TIFF of 16 bits": lambda m: m.put(_place("g.tif"), m.encoded("TIFF", m.grey_of_16_bits())),
    "CMYK": lambda m: m.put(_place("h.jpg"), m.encoded(picture=m.picture().convert("CMYK"))),
    "grey": lambda m: m.put(_place("i.jpg"), m.encoded(picture=m.picture().convert("L"))),
    "transparent": lambda m: m.put(_place("j.png"), m.encoded("PNG", m.picture().convert("RGBA"))),
    "palette": lambda m: m.put(_place("k.png"), m.encoded("PNG", m.picture().convert("P"))),
    "rotated by EXIF": lambda m: m.put(_place("l.jpg"), m.encoded(exif=_exif(6))),
    "unknown orientation": lambda m: m.put(_place("m.jpg"), m.encoded(exif=_exif(99))),
    "bytes after the end": lambda m: m.put(_place("n.jpg"), m.encoded() + b"trailing" * 9),
    "progressive": lambda m: m.put(_place("o.jpg"), m.encoded(progressive=True)),
    "long and thin": lambda m: m.put(_place("p.png"), m.encoded("PNG", m.picture().resize((2000, 60)))),
    "blanks in the name": lambda m: m.put(_place(" my photo (1) .jpg"), m.encoded()),
    "quotes and signs in the name": lambda m: m.put(_place('it\'s "a" & b;c#d%e.jpg'), m.encoded()),
    "a line end in the name": lambda m: m.put(_place("two\nlines.jpg"), m.encoded()),
    "composed name": lambda m: m.put(_place(unicodedata.normalize("NFC", "Reiher é.jpg")), m.encoded()),
    "decomposed name": lambda m: m.put(_place(unicodedata.normalize("NFD", "Möwe è.jpg")), m.encoded()),
    "other script": lambda m: m.put(_place("鷺🐦.jpg"), m.encoded()),
    "several dots": lambda m: m.put(_place("a.b.c.jpg"), m.encoded()),
    "folder inside of a class": lambda m: m.put(_place("trip/day 2/q.jpg"), m.encoded()),
    "link to a picture": lambda m: (
        (m.root / _place("r.jpg")).symlink_to(m.root / CLASSES[1] / "0.jpg"),
        m.read.add(_place("r.jpg")),
    ),
    # Rows with the status error.
    "empty file": lambda m: m.put(_place("s.jpg"), b"", status="error"),
    "cut off": lambda m: m.put(_place("t.jpg"), m.encoded()[:700], status="error"),
    "a web page": lambda m: m.put(_place("u.jpg"), b"<!DOCTYPE html><html>404</html>", status="error"),
    "zeros": lambda m: m.put(_place("v.png"), bytes(5000), status="error"),
    "a huge header": lambda m: m.put(
        _place("w.bmp"),
        b"BM" + bytes(12) + (40).to_bytes(4, "little") + b"\xff\xff\xff\x7f" * 2 + bytes(28),
        status="error",
    ),
    # Files that are left out, and counted.
    "hidden file": lambda m: m.put(_place("._a.jpg"), m.encoded(), status=None),
    "hidden folder": lambda m: m.put(_place(".thumbnails/a.jpg"), m.encoded(), status=None),
    "version control": lambda m: m.put(".git/x/a.jpg", m.encoded(), status=None),
    "archive of a Mac": lambda m: m.put("__MACOSX/Grey Heron/a.jpg", m.encoded(), status=None),
    "video": lambda m: m.put(_place("x.mp4"), b"ftyp", status=None),
    "notes": lambda m: m.put("notes.txt", b"some notes", status=None),
    "thumbnail store": lambda m: m.put(_place("Thumbs.db"), b"db", status=None),
    "loose picture": lambda m: m.put("loose.jpg", m.encoded(), status=None),
    "broken link": lambda m: (m.root / _place("y.jpg")).symlink_to(m.root / "gone.jpg"),
    "link that leads outside": lambda m: (m.root / _place("z.jpg")).symlink_to("/etc/hostname"),
    "pipe": lambda m: os.mkfifo(m.root / _place("pipe.jpg")),
    "folder named like a picture": lambda m: (m.root / _place("folder.jpg")).mkdir(),
    "empty class": lambda m: (m.root / "Empty").mkdir(),
    "link to a folder": lambda m: (m.root / "Linked").symlink_to(m.root.parent),
}

LINES = (
    "pictures skipped, hidden: 2",
    "pictures skipped, in no class folder: 1",
    "pictures skipped, links that lead to no file: 1",
    "pictures skipped, no regular files: 1",
    "pictures skipped, behind links that lead outside: 1",
    "links to folders, which are not followed: 'Linked'; copy what they lead to",
    "files skipped, of no format that is read: 3 (.db 1, .mp4 1, .txt 1)",
    "folders without a picture, which are no classes: 'Empty'",
)


def messy_folder(root: Path, seed: int) -> Messy:
    """All kinds, in an order of the seed, beside a dozen good pictures of every class."""
    messy = Messy(root, random.Random(seed), lines=list(LINES))
    for name in CLASSES:
        for number in range(12):
            messy.put(f"{name}/{number}.jpg", messy.encoded())
    kinds = list(KINDS)
    messy.rng.shuffle(kinds)
    for kind in kinds:
        KINDS[kind](messy)
    return messy
