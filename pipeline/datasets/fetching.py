"""Brings an official archive over HTTP: goes on where it broke off, and gives it its name only when its md5 is right.

The standard library's client and not a newer one: those undo a Content-Encoding by themselves, and some servers label
a .tgz with one, so that what arrives is not what the md5 was taken of.
"""

import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, NoReturn
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from pipeline.core.files import write_text
from pipeline.core.params import UserError
from pipeline.core.urls import is_http

BACKOFF = 1.0  # seconds before the first retry; it doubles with every further one
LONGEST_WAIT = 60.0  # seconds, whatever Retry-After says
RETRIES = 6  # further attempts after the first, counted anew after PROGRESS
PROGRESS = 2**20  # bytes that an attempt must bring to show that the line works
TIMEOUT = 60.0  # seconds without a byte
CHUNK = 2**18  # bytes
TRY_AGAIN = (408, 425, 429)

Advance = Callable[[int, int | None], None]  # bytes so far, and of how many where that is known


@dataclass(frozen=True)
class Archive:
    """A file that others publish."""

    url: str
    name: str  # of the file, here
    md5: str


@dataclass(frozen=True)
class _Note:
    """What the beginning in the partial file is a beginning of. Kept beside it."""

    url: str
    md5: str
    total: int | None
    validator: str | None  # the server's name for this version: a strong ETag, or when it was last changed


class _BrokenError(Exception):
    """An attempt that another one may mend, and the least seconds to wait before it."""

    def __init__(self, reason: object, wait: float = 0.0):
        super().__init__(" ".join(str(reason).split()) or type(reason).__name__)
        self.wait = wait


def _silent(done: int, total: int | None) -> None:
    pass


def fetch(archive: Archive, folder: Path, advance: Advance = _silent) -> Path:
    """The archive's path in `folder`, fetched unless it is there. Raises UserError.

    Several processes may ask for the same one: one fetches it, the others wait.
    """
    path, part = folder / archive.name, folder / f".{archive.name}.part"
    try:
        while not _there(path):
            if not is_http(archive.url):
                raise UserError(
                    f"{archive.url!r} is no http or https URL; mend it, or put the archive yourself at data.path"
                )
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(part) as file:
                if file is None:
                    continue
                if not _there(path):  # it may have come while we waited
                    _Download(archive, part, file, advance).bring()
                if not _there(path):  # put there by hand meanwhile: not ours to replace
                    part.replace(path)
                    return path
                part.unlink()
        found = _md5(path)
    except OSError as error:
        place = error.filename or path
        raise UserError(
            f"{place}: {error.strerror or error}; mend that and run the same command again, or set data.path"
        ) from None
    if found != archive.md5:
        raise UserError(
            f"{path}: md5 {found}, wanted {archive.md5}, and left as it is; move it away to have it fetched anew, "
            "or put the right archive at data.path"
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


def _there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@contextmanager
def _alone(part: Path) -> Iterator[IO[bytes] | None]:
    """The partial file, open and ours alone; None where another process took it away while we waited for it.

    The lock is on the file itself and ends with its process, however that ends: nothing is left to clear up.
    """
    # Unbuffered, so that all that came is in the file when we are killed.
    with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{part.parent}: another process is fetching {part.name[1:-5]}; waiting for it", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks; the md5 is still checked
            pass
        try:
            ours = os.path.samestat(os.fstat(file.fileno()), part.stat())
        except FileNotFoundError:
            ours = False
        yield file if ours else None


class _Download:
    """Fills the partial file.

    Args:
        part: where it lies.
        file: the same, open, unbuffered and locked.
    """

    def __init__(self, archive: Archive, part: Path, file: IO[bytes], advance: Advance):
        self.archive, self.part, self.file, self.advance = archive, part, file, advance
        self.note_file = part.with_name(f"{part.name}.json")

    def bring(self) -> None:
        """The whole archive, verified. Raises UserError."""
        for _ in range(2):
            self._complete()
            found = _md5(self.part)
            if found == self.archive.md5:
                self.note_file.unlink(missing_ok=True)
                return
            self._restart()
        self.part.unlink()
        self._give_up(f"md5 {found}, wanted {self.archive.md5}, twice; it was removed")

    def _give_up(self, reason: object) -> NoReturn:
        raise UserError(
            f"{self.archive.url}: {reason}; try again later, or put {self.archive.name} yourself at data.path"
        )

    def _complete(self) -> None:
        """All bytes, unverified. Raises UserError after the last retry."""
        attempt, furthest = 0, self._done()
        while True:
            try:
                self._attempt()
                return
            except _BrokenError as error:
                if self._done() >= furthest + PROGRESS:
                    attempt, furthest = 0, self._done()
                if attempt == RETRIES:
                    self._give_up(f"{error} (attempt {attempt + 1}, the last; what came is kept)")
                time.sleep(max(error.wait, min(LONGEST_WAIT, BACKOFF * 2**attempt)))
                attempt += 1

    def _attempt(self) -> None:
        """One request for what is missing. Raises _BrokenError where something still is, UserError."""
        note = self._note()
        if note is None:
            self._restart()
        done = self._done()
        if note and note.total is not None and done >= note.total:
            return
        response = self._opened(done, note)
        if response is None:
            return
        with response:
            if response.status == 206:
                note, expected = self._continued(response, done, note)
            elif response.status == 200:
                note, expected = self._begun(response), response.length
            else:
                self._give_up(f"HTTP {response.status} without a file")
            self._check_space(note)
            self._receive(response, expected, note.total)
        done = self._done()
        if note.total is not None and done < note.total:
            raise _BrokenError(f"broke off after {done:,} of {note.total:,} bytes")

    def _opened(self, done: int, note: _Note | None) -> Any:
        """The response that brings the bytes from `done` on, or all; None where the server says there are no more."""
        headers = {"User-Agent": "divek"}  # some servers refuse Python's own
        if done and note:
            headers["Range"] = f"bytes={done}-"
            if note.validator:  # a file that has changed since comes whole
                headers["If-Range"] = note.validator
        try:
            request = urllib.request.Request(self.archive.url, headers=headers)
            return urllib.request.build_opener(_HttpRedirects).open(request, timeout=TIMEOUT)
        except HTTPError as error:
            error.close()
            if error.code == 416 and done:  # the md5 tells whether what we have is all
                return None
            reason = f"HTTP {error.code} {' '.join(str(error.reason).split())}"
            if error.code >= 500 or error.code in TRY_AGAIN:
                raise _BrokenError(reason, _seconds(error.headers.get("Retry-After"))) from None
            self._give_up(reason)
        except (OSError, http.client.HTTPException, ValueError) as error:
            cause = error.reason if isinstance(error, URLError) else error
            if isinstance(cause, ValueError):  # a URL that cannot be asked for, a certificate that is not valid
                self._give_up(cause)
            raise _BrokenError(cause) from None

    def _begun(self, response: Any) -> _Note:
        """Starts over with a response that brings the whole file."""
        self._restart()
        note = _Note(self.archive.url, self.archive.md5, response.length, _validator(response))
        self._keep(note)
        return note

    def _continued(self, response: Any, done: int, note: _Note | None) -> tuple[_Note, int]:
        """With a response that brings a part: the note, and the bytes in it. Raises _BrokenError where it does not fit.

        Not every server heeds If-Range, so the response is looked at too.
        """
        found = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|[*])", _header(response, "Content-Range"))
        if note and done and found:
            first, last = int(found[1]), int(found[2])
            total = note.total if found[3] == "*" else int(found[3])
            kind = "ETag" if (note.validator or "").startswith('"') else "Last-Modified"
            changed = note.validator and _header(response, kind) not in ("", note.validator)
            if first == done <= last and note.total in (None, total) and not changed:
                note = replace(note, total=total)
                self._keep(note)
                part = last + 1 - first
                return note, min(part, part if response.length is None else response.length)
        self._restart()
        raise _BrokenError("the server's file has changed, or it sent another part of it than was asked for")

    def _check_space(self, note: _Note) -> None:
        free, missing = shutil.disk_usage(self.part.parent).free, (note.total or 0) - self._done()
        if missing > free:
            raise UserError(
                f"{self.part.parent}: {self.archive.name} takes {missing:,} more bytes and {free:,} are free; "
                "make room, or put it elsewhere and set data.path"
            )

    def _receive(self, response: Any, expected: int | None, total: int | None) -> None:
        """Appends the response's bytes, at most `expected`. Raises _BrokenError."""
        done = self._done()
        self.file.seek(done)
        self.advance(done, total)
        while expected is None or expected > 0:
            try:
                content = response.read1(CHUNK if expected is None else min(CHUNK, expected))
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise _BrokenError(error) from None
            if not content:
                return
            if expected is not None:
                expected -= len(content)
            done += len(content)
            while content:  # a raw file may take less than it is given
                content = content[self.file.write(content) :]
            self.advance(done, total)

    def _done(self) -> int:
        return os.fstat(self.file.fileno()).st_size

    def _restart(self) -> None:
        # In this order: a note never belongs to bytes that came before it.
        self.file.truncate(0)
        self.note_file.unlink(missing_ok=True)

    def _keep(self, note: _Note) -> None:
        write_text(self.note_file, json.dumps(asdict(note)))

    def _note(self) -> _Note | None:
        """None where there is none, or one about another file."""
        with suppress(OSError, ValueError, TypeError):
            note = _Note(**json.loads(self.note_file.read_text()))
            whole = isinstance(note.total, int | None) and isinstance(note.validator, str | None)
            if whole and (note.url, note.md5) == (self.archive.url, self.archive.md5):
                return note
        return None


class _HttpRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, a limited number of them, to nothing but HTTP."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise HTTPError(newurl, code, f"redirects to {newurl}, which is not http or https", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _header(response: Any, name: str) -> str:
    return str(response.headers.get(name) or "").strip()


def _validator(response: Any) -> str | None:
    """The server's name for this version of the file, None where it has none that can be sent back."""
    for value in (_header(response, "ETag"), _header(response, "Last-Modified")):
        if value and value.isascii() and value.isprintable() and not value.startswith("W/"):
            return value
    return None


def _seconds(header: str | None) -> float:
    return min(float(header), LONGEST_WAIT) if header and re.fullmatch("[0-9]{1,9}", header.strip()) else 0.0
