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
        packed += picture_archives(dataset, place, root, rows["path"])
        yield Source(
            name=dataset.NAME,
            names=names,
            rows=rows,
            noun=dataset.NOUN,
            licence=dataset.LICENCE,
            pictures=lambda paths: pictures(dataset.NAME, root, [archive for archive, _ in packed], paths),
            missing=_missing(root, [folder for _, folder in packed if folder is not None], rows["path"]),
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


Packed = tuple[Path, str | None]
"""An archive, and the folder of the index whose pictures are all in it: empty for the whole index, None for none."""


def lay_out(dataset: Official, place: Path | None, root: Path) -> list[Packed]:
    """Links what there is into `root` and takes the metadata out of the archives; gives those with metadata."""
    for folder in _folders(dataset, place):
        for entry in folder.iterdir():
            target = root / entry.name
            if not (entry.name.startswith(".") or target.is_symlink()):
                target.symlink_to(entry.resolve())
    packed: list[Packed] = []
    for file in dataset.FILES:
        if file.pictures or (file.packed and _is_unpacked(file, root)):
            continue
        archive = _archive(dataset, file, place)
        if archive is None:
            continue
        if not file.packed:
            link = root / file.archive.name
            link.unlink(missing_ok=True)
            link.symlink_to(archive.resolve())
            continue
        # The pictures of a data set are in this archive, or in those that hold nothing else.
        packed.append((archive, None if any(one.pictures for one in dataset.FILES) else ""))
        for name, content in archives.members(archive, lambda name: _is_metadata(dataset, name), MOST_BYTES):
            _write_below(root, name, content)
    return packed


def _write_below(root: Path, name: str, content: bytes) -> None:
    """Writes root/name; links on the way, which lead to files of the user's, are replaced and not followed."""
    place = root
    for part in Path(name).parts:
        place /= part
        if place.is_symlink():
            place.unlink()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)


def picture_archives(dataset: Official, place: Path | None, root: Path, paths: Collection[str]) -> list[Packed]:
    """The archives of pictures alone of which the index needs one, fetched where they are nowhere. Raises UserError."""
    packed: list[Packed] = []
    for file in dataset.FILES:
        folder = f"{file.unpacked[0]}/"
        if file.pictures and not _is_unpacked(file, root) and any(path.startswith(folder) for path in paths):
            archive = _archive(dataset, file, place)
            packed += [] if archive is None else [(archive, folder)]
    return packed


def _folders(dataset: Official, place: Path | None) -> list[Path]:
    return [folder for folder in (place, archive_folder(dataset.NAME)) if folder is not None and folder.is_dir()]


def _is_unpacked(file: Published, root: Path) -> bool:
    return any((root / sign).exists() for sign in file.unpacked)


def _archive(dataset: Official, file: Published, place: Path | None) -> Path | None:
    """The file as it is published, fetched where it is nowhere; None for an optional one. Raises UserError."""
    here = next((folder for folder in _folders(dataset, place) if (folder / file.archive.name).exists()), None)
    if here is None and not file.archive.url:
        if file.optional:
            return None
        raise UserError(
            f"{dataset.NAME}: {file.archive.name} is no longer published, and neither it nor "
            f"{file.unpacked[0]} is in {place or 'data.path'}; set data.path to a folder that has one of them, "
            "or data.hub to a mirror"
        )
    return fetching.with_bar(file.archive, here or archive_folder(dataset.NAME))


def _is_metadata(dataset: Official, name: str) -> bool:
    return name.rpartition("/")[2] in dataset.METADATA


def _missing(root: Path, folders: Collection[str], paths: Collection[str]) -> frozenset[str]:
    """Paths of the index that are neither a file below `root` nor in an archive, whose md5 says that it is whole."""
    packed = tuple(folders)
    return frozenset(path for path in paths if not path.startswith(packed) and not (root / path).is_file())


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
