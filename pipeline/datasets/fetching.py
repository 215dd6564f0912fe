"""Fetches official archives: one process downloads, others wait; a file gets its name once its md5 is right."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import lock_descriptor

from pipeline.core.params import UserError
from pipeline.core.urls import is_http
from pipeline.datasets.http_download import Advance, Download, md5_of
from pipeline.datasets.published import Archive


def _silent(done: int, total: int | None) -> None:
    pass


def fetch(archive: Archive, folder: Path, advance: Advance = _silent) -> Path:
    """The archive's path in `folder`, fetched unless it is there. Raises UserError.

    Several processes may ask for the same one: one fetches it, the others wait.
    """
    path, part = folder / archive.name, folder / f".{archive.name}.part"
    try:
        while not _exists(path):
            if not is_http(archive.url):
                raise UserError(
                    f"{archive.url!r} is no http or https URL; fix it, or put the archive into data.path yourself"
                )
            folder.mkdir(parents=True, exist_ok=True)
            with _exclusive(part) as file:
                if file is None:
                    continue
                if not _exists(path):  # it may have come while we waited
                    Download(archive, part, file, advance).run()
                if not _exists(path):  # put there by hand meanwhile: not ours to replace
                    part.replace(path)
                    return path
                part.unlink()
        actual = md5_of(path)
    except OSError as error:
        place = error.filename or path
        raise UserError(
            f"{place}: {error.strerror or error}; fix that and run the same command again, or set data.path"
        ) from None
    if actual != archive.md5:
        raise UserError(
            f"{path}: md5 is {actual}, expected {archive.md5}; move the file away to have it fetched again, or put the "
            "right archive into data.path"
        )
    return path


def with_bar(archive: Archive, folder: Path) -> Path:
    """`fetch` with a progress bar, which is not shown where nobody would see it move. Raises UserError."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    name = TextColumn("{task.description}", markup=False)
    with Progress(name, *columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(archive.name, total=None)
        return fetch(archive, folder, lambda done, total: bar.update(task, completed=done, total=total))


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


@contextmanager
def _exclusive(part: Path) -> Iterator[IO[bytes] | None]:
    """The partial file, open and ours alone; None where another process took it away while we waited for it.

    The lock is on the file itself and ends with its process, however that ends: nothing is left to clear up.
    """
    # Unbuffered, so that all that came is in the file when we are killed.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(part, flags, 0o666), "r+b", buffering=0) as file:
        with suppress(OSError):  # a file system without locks; the md5 is still checked
            if not lock_descriptor(file.fileno(), blocking=False):
                print(f"{part.parent}: another process is fetching {part.name[1:-5]}; waiting for it", file=sys.stderr)
                lock_descriptor(file.fileno())
        try:
            ours = os.path.samestat(os.fstat(file.fileno()), part.stat())
        except FileNotFoundError:
            ours = False
        yield file if ours else None
