"""The entries of .tar, .tgz and .zip archives, one after the other, in constant memory and within a budget."""

import gzip
import math
import stat
import tarfile
import zipfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

# Bytes before a member of a tar: tarfile holds them in memory, and may take time as their square.
LONGEST_HEADER = 2**15
CHUNK = 2**16  # bytes

KINDS = {tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link", tarfile.FIFOTYPE: "a fifo"}


class RefusedError(Exception):
    """What is wrong with an archive."""


@dataclass
class Budget:
    """What may still come out of an archive."""

    left: int  # bytes, in all
    header: float = math.inf  # bytes, before tarfile must give a member

    def spend(self, count: int) -> None:
        self.left -= count
        self.header -= count
        if self.left < 0:
            raise RefusedError("more bytes come out of it than allowed")
        if self.header < 0:
            raise RefusedError("the header of a member does not end")


@dataclass(frozen=True)
class Entry:
    name: str  # as in the archive
    folder: bool
    size: int  # bytes, as the archive has it
    chunks: Iterator[bytes]


def quoted(name: str) -> str:
    return repr(name if len(name) <= 100 else f"{name[:99]}…")


def _chunks(file: Any) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def entries_of(path: Path, budget: Budget) -> Generator[Entry, None, None]:
    """All files and folders, by what the archive is and not by what it is called."""
    if not path.is_file():
        raise RefusedError("no such file")
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

    def __init__(self, file: Any, budget: Budget):
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
            raise RefusedError(f"no tar archive, or a damaged one ({error})") from None


def _tar(source: Any, path: Path, budget: Budget) -> Iterator[Entry]:
    budget.header = LONGEST_HEADER
    # As a stream: in constant memory, and with no way back to what was read before.
    with tarfile.open(fileobj=source, mode="r|", tarinfo=_Header, encoding="utf-8") as tar:
        while member := tar.next():
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
            name = quoted(member.name)
            if not member.isdir() and (member.type not in tarfile.REGULAR_TYPES or member.issparse()):
                raise RefusedError(f"{name} is {KINDS.get(member.type, 'special')}, expected files and folders only")
            if member.size < 0:
                raise RefusedError(f"{name} has a negative size")
            if hasattr(tarfile, "data_filter"):  # Python 3.11.4 and newer
                tarfile.data_filter(member, str(path))  # its own checks as well; nothing is written there
            file = tar.extractfile(member)
            budget.header = math.inf
            chunks = _chunks(file) if file else iter(())
            yield Entry(member.name, member.isdir(), member.size, chunks)
            for _ in chunks:  # what is not needed
                pass
            budget.header = LONGEST_HEADER
        budget.header = math.inf
        for rest in _chunks(tar.fileobj):  # to the end, where gzip has its checksum
            if rest.count(0) != len(rest):
                raise RefusedError("something follows the end")


def _zip(file: IO[bytes], budget: Budget) -> Iterator[Entry]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            name, mode = quoted(info.orig_filename), info.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise RefusedError(f"{name} is a link or special, expected files and folders only")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # the others know no limit
                raise RefusedError(f"{name} is compressed by method {info.compress_type}, expected deflate")
            folder = info.is_dir() or stat.S_ISDIR(mode)
            yield Entry(info.orig_filename, folder, info.file_size, _zipped(archive, info, budget))


def _zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> Iterator[bytes]:
    with archive.open(info) as file:
        for chunk in _chunks(file):
            budget.spend(len(chunk))
            yield chunk
