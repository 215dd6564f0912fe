"""Small data sets in the official layouts, with pictures, packed as their authors pack them."""

import hashlib
import io
import json
import random
import tarfile
from dataclasses import replace
from pathlib import Path

from PIL import Image
from support.official_files import MAKE

from pipeline.datasets import OFFICIAL, index, layout
from pipeline.datasets.published import Published

MEMBERS = {
    "102flowers.tgz": "jpg",
    "images.tar.gz": "images",
    "annotations.tar.gz": "annotations",
    "car_devkit.tgz": "devkit",
    "cars_train.tgz": "cars_train",
    "cars_test.tgz": "cars_test",
    "fgvc-aircraft-2013b.tar.gz": "fgvc-aircraft-2013b",
    "CUB_200_2011.tgz": "CUB_200_2011",
}
"""What lies in each archive."""


def picture(name: str, width: int = 80, height: int = 60, mode: str = "RGB") -> bytes:
    """A picture that no other name has, with a white banner of 20 rows at its lower edge."""
    rng = random.Random(name)
    image = Image.frombytes("RGB", (10, 8), rng.randbytes(240)).resize((width, height), Image.Resampling.BICUBIC)
    image.paste((255, 255, 255), (0, height - 20, width, height))
    file = io.BytesIO()
    image.convert(mode).save(file, "JPEG", quality=92)
    return file.getvalue()


def make(name: str, root: Path) -> Path:
    """The unpacked data set `name` in root/name."""
    place = root / name
    place.mkdir(parents=True)
    MAKE[name](place)
    protocols = ("official",) if name in ("aircraft", "cub") else ("official", "coop")
    for protocol in protocols:
        for path in index(name, place, protocol)["path"]:
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(picture(f"{name}/{path}"))
    return place


def pack(unpacked: Path, name: str, into: Path) -> tuple[Published, ...]:
    """The archives and loose files of `unpacked` in `into`; gives the module's own files with the md5 of these."""
    into.mkdir(parents=True, exist_ok=True)
    files = []
    for file in OFFICIAL[name].FILES:
        target = into / file.archive.name
        if file.packed:
            with tarfile.open(target, "w:gz", compresslevel=1) as archive:
                archive.add(unpacked / MEMBERS[target.name], MEMBERS[target.name])
        elif (unpacked / target.name).exists():
            target.write_bytes((unpacked / target.name).read_bytes())
        md5 = hashlib.md5(target.read_bytes()).hexdigest()
        files.append(replace(file, archive=replace(file.archive, md5=md5)))
    for loose in unpacked.glob("*.json"):
        (into / loose.name).write_bytes(loose.read_bytes())
    return tuple(files)


def at(files: tuple[Published, ...], url: str) -> tuple[Published, ...]:
    """The same files, published at `url`; those that are published nowhere stay so."""
    return tuple(
        replace(file, archive=replace(file.archive, url=file.archive.url and f"{url}/{file.archive.name}"))
        for file in files
    )


def classes_of(name: str, unpacked: Path) -> list[tuple[int, str, list[str]]]:
    """The small data set's own table of names."""
    found = index(name, unpacked, "official").select("class_id", "class_name").unique().sort("class_id")
    return [(class_id, class_name, [f"other {class_name}"]) for class_id, class_name in found.rows()]


def stand_in(name: str, files: tuple[Published, ...], classes: list, patch) -> None:
    """Has the small data set stand in for the real one; `patch` sets an attribute."""
    patch(OFFICIAL[name], "FILES", files)
    known = layout.class_table
    patch(layout, "class_table", lambda asked: classes if asked == name else known(asked))


def driver(name: str, files: tuple[Published, ...], classes: list) -> str:
    """A script that runs the stage on the small data set in a process of its own."""
    from dataclasses import asdict

    rows = json.dumps([asdict(file) for file in files])
    return f"""
import json, sys
from pipeline.datasets.published import Archive, Published
from pipeline.datasets import OFFICIAL, layout
from pipeline.stages.download import main
from pathlib import Path
rows = json.loads({rows!r})
files = [Published(Archive(**row["archive"]), tuple(row["unpacked"]), row["optional"]) for row in rows]
OFFICIAL[{name!r}].FILES = tuple(files)
layout.class_table = lambda name: {classes!r}
main(Path("data/classes.parquet"), Path("data/images.parquet"), False)
"""
