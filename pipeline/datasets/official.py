"""Finds the files of an official data set: unpacked or packed in a folder of the user's, or at their publisher's."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import polars as pl

from pipeline.core.files import work_folder
from pipeline.core.params import UserError
from pipeline.datasets import archives, fetching, layout
from pipeline.datasets.published import Published
from pipeline.datasets.source import Source

MOST_BYTES = 2**35  # that may come out of one archive


class Official(Protocol):
    """A module of this package that describes an official data set."""

    NAME: str
    NOUN: str
    LICENCE: str
    CROP_BOTTOM: int
    FILES: tuple[Published, ...]
    METADATA: tuple[str, ...]

    def index(self, root: Path, protocol: str, seed: int = 0) -> pl.DataFrame: ...


def archive_folder(name: str) -> Path:
    """The folder for the archives of a data set that have been fetched."""
    return work_folder("download") / name


@contextmanager
def open_source(dataset: Official, place: Path | None, protocol: str, seed: int) -> Iterator[Source]:
    """The data set as it is in `place`; what is not there is fetched. Raises UserError."""
    with TemporaryDirectory() as scratch:
        root = Path(scratch)
        packed = lay_out(dataset, place, root)
        try:
            rows = dataset.index(root, protocol, seed)
        except UserError as error:  # the layout that it names ends with us
            raise UserError(str(error).replace(f"{root}/", f"{dataset.NAME}: ")) from None
        names, aliases = names_of(dataset.NAME, rows)
        yield Source(
            name=dataset.NAME,
            names=names,
            rows=rows,
            noun=dataset.NOUN,
            licence=dataset.LICENCE,
            pictures=lambda paths: pictures(dataset.NAME, root, packed, paths),
            aliases=aliases,
            groups=layout.class_groups(dataset.NAME),
            crop_bottom=dataset.CROP_BOTTOM,
            complete=protocol == "paper",
        )


def names_of(dataset: str, rows: pl.DataFrame) -> tuple[list[str], dict[str, list[str]]]:
    """Class names by class_id, as the metadata has them, and the other names of each, from our own table."""
    own_names = dict(rows.select("class_id", "class_name").iter_rows())
    names, aliases = [], {}
    for class_id, name, others in layout.class_table(dataset):
        names.append(own_names.get(class_id, name))
        aliases[names[-1]] = others if names[-1] == name else [name, *others]
    return names, aliases


def lay_out(dataset: Official, place: Path | None, root: Path) -> list[Path]:
    """Links what there is into `root`, takes the metadata out of the archives, and gives the archives."""
    folders = [folder for folder in (place, archive_folder(dataset.NAME)) if folder is not None and folder.is_dir()]
    for folder in folders:
        for entry in folder.iterdir():
            target = root / entry.name
            if not (entry.name.startswith(".") or target.is_symlink()):
                target.symlink_to(entry.resolve())
    packed = []
    for file in dataset.FILES:
        if file.packed and any((root / sign).exists() for sign in file.unpacked):
            continue
        here = next((folder for folder in folders if (folder / file.archive.name).exists()), None)
        if here is None and not file.archive.url:
            if file.optional:
                continue
            raise UserError(
                f"{dataset.NAME}: {file.archive.name} is no longer published, and neither it nor "
                f"{file.unpacked[0]} is in {place or 'data.path'}; set data.path to a folder that has one of them, "
                "or data.hub to a mirror"
            )
        archive = fetching.with_bar(file.archive, here or archive_folder(dataset.NAME))
        if not file.packed:
            link = root / file.archive.name
            link.unlink(missing_ok=True)
            link.symlink_to(archive.resolve())
            continue
        packed.append(archive)
        for name, content in archives.members(archive, lambda name: _is_metadata(dataset, name), MOST_BYTES):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
    return packed


def _is_metadata(dataset: Official, name: str) -> bool:
    return name.rpartition("/")[2] in dataset.METADATA


def pictures(name: str, root: Path, packed: list[Path], paths: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Path and content of each image, from the folder or from the archives. Raises UserError."""
    missing = set(paths)
    for path in sorted(paths):
        if (root / path).is_file():
            yield path, (root / path).read_bytes()
            missing.discard(path)
    for archive in packed:
        for path, content in archives.members(archive, missing.__contains__, MOST_BYTES) if missing else ():
            yield path, content
            missing.discard(path)
    if missing:
        raise UserError(
            f"{name}: {len(missing)} of {len(paths)} images are missing, the first {min(missing)!r}; "
            "complete the folder data.path, or remove it to have the archives fetched"
        )
