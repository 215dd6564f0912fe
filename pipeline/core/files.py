"""Whole or absent: a file or folder appears under its name only when it is finished."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from filelock import lock_descriptor


def work_folder(name: str) -> Path:
    """The folder for unfinished work and for what is reused between runs: in the project, for all experiments.

    DVC runs some experiments in a copy of the project, and names the project itself in DVC_ROOT.
    """
    return Path(os.environ.get("DVC_ROOT", ".")) / ".work" / name


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to, and moves it there if nothing went wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    partial.touch()
    try:
        with _lock(partial):
            yield partial
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Gives a folder beside `path` to fill, and puts it in its place if nothing went wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    partial.mkdir()
    try:
        with _lock(partial):
            yield partial
            shutil.rmtree(path, ignore_errors=True)
            partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path`, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def _partial(path: Path) -> Path:
    """A name for what becomes `path`. Leftovers of killed processes under such names are removed."""
    for leftover in path.parent.glob(f".{escape(path.name)}.*.partial"):
        with suppress(OSError), _open_descriptor(leftover) as file:
            if lock_descriptor(file, blocking=False):  # no other process is writing it
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Holds the lock of a file or folder. The lock ends with the process, even a killed one."""
    with _open_descriptor(path) as file:
        with suppress(OSError):  # a file system without locks
            lock_descriptor(file, blocking=False)
        yield


@contextmanager
def _open_descriptor(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY)
    try:
        yield file
    finally:
        os.close(file)
