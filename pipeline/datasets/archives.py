"""Reads untrusted .tgz, .tar.gz, .tar and .zip archives: one file after the other, nothing on disk.

An archive is refused as a whole for the first thing in it that no data set needs: a link, a device, a name that leads
elsewhere or occurs twice. Stated sizes are not trusted: what comes out is counted.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.params import UserError
from pipeline.datasets.archive_readers import Budget, Entry, RefusedError, entries_of, quoted

LARGEST_MEMBER = 2**26  # bytes of one needed file, which is held in memory
MOST_MEMBERS = 10**6
LONGEST_NAME = 1024  # bytes of a path
LONGEST_PART = 255  # bytes between two slashes, what file systems allow


@dataclass
class _Names:
    """What has been seen, so that nothing comes twice and nothing lies in a file."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)

    def add(self, name: str, folder: bool) -> str:
        above = [name[: slash.start()] for slash in re.finditer("/", name)]
        if name in self.files or (name in self.folders and not folder) or not self.files.isdisjoint(above):
            raise RefusedError("its name comes twice, or lies in a file")
        self.folders.update(above)
        (self.folders if folder else self.files).add(name)
        if len(self.files) + len(self.folders) > MOST_MEMBERS:
            raise RefusedError(f"more than {MOST_MEMBERS:,} files and folders")
        return name


def members(path: Path, is_needed: Callable[[str], bool], max_bytes: int) -> Iterator[tuple[str, bytes]]:
    """The needed files of an archive as (name, content), in its order.

    The end of an archive may show that it is damaged: what was given is good only when all was.

    Args:
        is_needed: by name, which is relative, with slashes.
        max_bytes: that may come out of it; of a tar, what is skipped and its headers count too.

    Raises:
        UserError: for whatever is wrong with the archive.
    """
    names, place = _Names(), "its beginning"
    with closing(entries_of(path, Budget(max_bytes))) as entries:
        while True:
            with _as_user_error(path, place):
                entry = next(entries, None)
                if entry is None:
                    return
            place = quoted(entry.name)
            with _as_user_error(path, place):
                name = names.add(_clean(entry.name, entry.folder), entry.folder)
            if not entry.folder and is_needed(name):
                with _as_user_error(path, place):
                    content = _content(entry)
                yield name, content
            place = f"after {place}"


@contextmanager
def _as_user_error(path: Path, place: str) -> Iterator[None]:
    """Whatever goes wrong within, as a UserError: damaged archives make their readers raise nearly anything."""
    try:
        yield
    except Exception as error:
        message = " ".join(str(error).split())
        reason = message if isinstance(error, RefusedError) else f"{type(error).__name__} {message}".strip()
        raise UserError(f"{path}: {place}: {reason}; fetch the archive again, or set data.path to a good one") from None


def _clean(name: str, folder: bool) -> str:
    """The name without `.`, the root being empty. Raises RefusedError for one that is not simply a path below."""
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
    for trouble, applies in troubles.items():
        if applies:
            raise RefusedError(f"its name {trouble}")
    return cleaned


def _content(entry: Entry) -> bytes:
    parts, size = [], 0
    for chunk in entry.chunks:
        parts.append(chunk)
        size += len(chunk)
        if size > LARGEST_MEMBER:
            raise RefusedError(f"more than {LARGEST_MEMBER:,} bytes")
    if size != entry.size:
        raise RefusedError(f"{size:,} bytes, while the archive says {entry.size:,}")
    return b"".join(parts)
