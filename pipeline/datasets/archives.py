"""Reads .tgz, .tar.gz, .tar and .zip archives that nobody vouches for: one file after the other, nothing on disk.

An archive is refused, whole, for the first thing in it that none of the data sets needs: a link, a device, a name that
leads elsewhere or comes twice. No size that it states is believed: what comes out is counted.
"""

import gzip
import math
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pipeline.core.files import whole_folder
from pipeline.core.params import UserError

LARGEST_MEMBER = 2**26  # bytes of one wanted file, which is held in memory
MOST_MEMBERS = 10**6
LONGEST_NAME = 1024  # bytes of a path
LONGEST_PART = 255  # bytes between two slashes, what file systems allow
# Bytes before a member of a tar: tarfile holds them in memory, and may take time as their square.
LONGEST_HEADER = 2**15
CHUNK = 2**16  # bytes

KINDS = {tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link", tarfile.FIFOTYPE: "a fifo"}


class _RefusedError(Exception):
    """What is wrong with an archive."""


@dataclass
class _Budget:
    """What may still come out of an archive."""

    left: int  # bytes, in all
    header: float = math.inf  # bytes, before tarfile must give a member

    def spend(self, count: int) -> None:
        self.left -= count
        self.header -= count
        if self.left < 0:
            raise _RefusedError("more bytes come out of it than allowed")
        if self.header < 0:
            raise _RefusedError("the header of a member does not end")


@dataclass(frozen=True)
class _Entry:
    name: str  # as in the archive
    folder: bool
    size: int  # bytes, as the archive has it
    chunks: Iterator[bytes]


@dataclass
class _Names:
    """What has been seen, so that nothing comes twice and nothing lies in a file."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)

    def add(self, name: str, folder: bool) -> str:
        above = [name[: slash.start()] for slash in re.finditer("/", name)]
        if name in self.files or (name in self.folders and not folder) or not self.files.isdisjoint(above):
            raise _RefusedError("its name comes twice, or lies in a file")
        self.folders.update(above)
        (self.folders if folder else self.files).add(name)
        if len(self.files) + len(self.folders) > MOST_MEMBERS:
            raise _RefusedError(f"more than {MOST_MEMBERS:,} files and folders")
        return name


def members(path: Path, wanted: Callable[[str], bool], max_bytes: int) -> Iterator[tuple[str, bytes]]:
    """The wanted files of an archive as (name, content), in its order.

    The end of an archive may show that it is damaged: what was given is good only when all was.

    Args:
        wanted: by name, which is relative, with slashes.
        max_bytes: that may come out of it; of a tar, what is skipped and its headers count too.

    Raises:
        UserError: for whatever is wrong with the archive.
    """
    names, place = _Names(), "its beginning"
    with closing(_entries(path, _Budget(max_bytes))) as entries:
        while True:
            with _reported(path, place):
                entry = next(entries, None)
                if entry is None:
                    return
            place = _shown(entry.name)
            with _reported(path, place):
                name = names.add(_cleaned(entry.name, entry.folder), entry.folder)
            if not entry.folder and wanted(name):
                with _reported(path, place):
                    content = _content(entry)
                yield name, content
            place = f"after {place}"


def unpack(path: Path, folder: Path, wanted: Callable[[str], bool], max_bytes: int) -> None:
    """Puts the wanted files of an archive in `folder`, all of them or none; what was there is replaced.

    Raises:
        UserError: for whatever is wrong with the archive or the folder.
    """
    try:
        with whole_folder(folder) as partial:
            for name, content in members(path, wanted, max_bytes):
                target = partial / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file:  # two names may be one to the file system
                    file.write(content)
    except OSError as error:
        raise UserError(
            f"{path}: {error.filename or folder}: {error.strerror or error}; mend that and run the same command again"
        ) from None


@contextmanager
def _reported(path: Path, place: str) -> Iterator[None]:
    """Whatever goes wrong within, as a UserError: damaged archives make their readers raise nearly anything."""
    try:
        yield
    except Exception as error:
        said = " ".join(str(error).split())
        reason = said if isinstance(error, _RefusedError) else f"{type(error).__name__} {said}".strip()
        raise UserError(f"{path}: {place}: {reason}; fetch the archive anew, or set data.path to a good one") from None


def _shown(name: str) -> str:
    return repr(name if len(name) <= 100 else f"{name[:99]}…")


def _cleaned(name: str, folder: bool) -> str:
    """The name without `.`, the root being empty. Raises _RefusedError for one that is not simply a path below."""
    parts = [part for part in (name.removesuffix("/") if folder else name).split("/") if part != "."]
    cleaned = "/".join(parts)
    size = len(cleaned.encode(errors="replace"))
    troubles = {
        "is absolute": name.startswith("/"),
        "has an empty part": "" in parts and not (folder and parts == [""]),
        "leads upwards": ".." in parts,
        "has a drive": re.match("[A-Za-z]:", cleaned) is not None,
        "has a backslash": "\\" in name,
        "has control characters": re.search("[\0-\x1f\x7f]", name) is not None,
        "is not UTF-8": re.search("[\ud800-\udfff]", name) is not None,
        "is too long": size > LONGEST_NAME or any(len(part.encode(errors="replace")) > LONGEST_PART for part in parts),
        "is empty": not parts and not folder,
    }
    for trouble, found in troubles.items():
        if found:
            raise _RefusedError(f"its name {trouble}")
    return cleaned


def _content(entry: _Entry) -> bytes:
    parts, size = [], 0
    for chunk in entry.chunks:
        parts.append(chunk)
        size += len(chunk)
        if size > LARGEST_MEMBER:
            raise _RefusedError(f"more than {LARGEST_MEMBER:,} bytes")
    if size != entry.size:
        raise _RefusedError(f"{size:,} bytes, while the archive says {entry.size:,}")
    return b"".join(parts)


def _chunks(file: Any) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _entries(path: Path, budget: _Budget) -> Generator[_Entry, None, None]:
    """All files and folders, by what the archive is and not by what it is called."""
    if not path.is_file():
        raise _RefusedError("not found, or no file")
    with path.open("rb") as file:
        start = file.read(2)
        file.seek(0)
        if start == b"PK":
            yield from _zip(file, budget)
        elif start == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=file) as stream:
                yield from _tar(_Counted(stream, budget), path, budget)
        else:
            yield from _tar(_Counted(file, budget), path, budget)


class _Counted:
    """A file that is read within a budget."""

    def __init__(self, file: Any, budget: _Budget):
        self.file, self.budget = file, budget

    def read(self, size: int) -> bytes:
        content: bytes = self.file.read(size)
        self.budget.spend(len(content))
        return content


class _Header(tarfile.TarInfo):
    """tarfile takes a damaged header, and a missing end, for the end of the archive: here they are errors."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> "_Header":
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise _RefusedError(f"no tar archive, or a damaged one ({error})") from None


def _tar(source: Any, path: Path, budget: _Budget) -> Iterator[_Entry]:
    budget.header = LONGEST_HEADER
    # As a stream: in constant memory, and with no way back to what was read before.
    with tarfile.open(fileobj=source, mode="r|", tarinfo=_Header, encoding="utf-8") as tar:
        while member := tar.next():
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
            name = _shown(member.name)
            if not member.isdir() and (member.type not in tarfile.REGULAR_TYPES or member.issparse()):
                raise _RefusedError(f"{name} is {KINDS.get(member.type, 'special')}, wanted files and folders only")
            if member.size < 0:
                raise _RefusedError(f"{name} has a negative size")
            if hasattr(tarfile, "data_filter"):  # Python 3.11.4 and newer
                tarfile.data_filter(member, str(path))  # its own checks as well; nothing is written there
            file = tar.extractfile(member)
            budget.header = math.inf
            chunks = _chunks(file) if file else iter(())
            yield _Entry(member.name, member.isdir(), member.size, chunks)
            for _ in chunks:  # what was not wanted
                pass
            budget.header = LONGEST_HEADER
        budget.header = math.inf
        for rest in _chunks(tar.fileobj):  # to the end, where gzip has its checksum
            if rest.count(0) != len(rest):
                raise _RefusedError("something follows the end")


def _zip(file: IO[bytes], budget: _Budget) -> Iterator[_Entry]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            name, mode = _shown(info.orig_filename), info.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _RefusedError(f"{name} is a link or special, wanted files and folders only")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # the others know no limit
                raise _RefusedError(f"{name} is compressed by method {info.compress_type}, wanted deflate")
            folder = info.is_dir() or stat.S_ISDIR(mode)
            yield _Entry(info.orig_filename, folder, info.file_size, _zipped(archive, info, budget))


def _zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: _Budget) -> Iterator[bytes]:
    with archive.open(info) as file:
        for chunk in _chunks(file):
            budget.spend(len(chunk))
            yield chunk
