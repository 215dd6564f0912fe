"""Downloads a file over HTTP: continues where it broke off, and verifies the md5.

The standard library's client and not a newer one: those undo a Content-Encoding by themselves, and some servers label
a .tgz with one, so that what arrives is not what the md5 was taken of.
"""

import hashlib
import http.client
import json
import os
import re
import shutil
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any, NoReturn
from urllib.error import HTTPError, URLError

from pipeline.core.files import write_text
from pipeline.core.params import UserError
from pipeline.datasets.http_responses import LONGEST_WAIT, HttpRedirects, ResumeNote, header, retry_after, validator
from pipeline.datasets.published import Archive

BACKOFF = 1.0  # seconds before the first retry; it doubles with every further one
RETRIES = 6  # further attempts after the first, counted anew after PROGRESS
PROGRESS = 2**20  # bytes that an attempt must bring to show that the line works
TIMEOUT = 60.0  # seconds without a byte
CHUNK = 2**18  # bytes
TRY_AGAIN = (408, 425, 429)

Advance = Callable[[int, int | None], None]  # bytes so far, and of how many where that is known


class InterruptedDownloadError(Exception):
    """An attempt that another one may mend, and the least seconds to wait before it."""

    def __init__(self, reason: object, wait: float = 0.0):
        super().__init__(" ".join(str(reason).split()) or type(reason).__name__)
        self.wait = wait


def md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


class Download:
    """Fills the partial file.

    Args:
        part: where it lies.
        file: the same, open, unbuffered and locked.
    """

    def __init__(self, archive: Archive, part: Path, file: IO[bytes], advance: Advance):
        self.archive, self.part, self.file, self.advance = archive, part, file, advance
        self.note_file = part.with_name(f"{part.name}.json")

    def run(self) -> None:
        """The whole archive, verified. Raises UserError."""
        for _ in range(2):
            self._complete()
            match = md5_of(self.part)
            if match == self.archive.md5:
                self.note_file.unlink(missing_ok=True)
                return
            self._restart()
        self.part.unlink()
        self._give_up(f"md5 {match}, expected {self.archive.md5}, twice; the file was removed")

    def _give_up(self, reason: object) -> NoReturn:
        raise UserError(
            f"{self.archive.url}: {reason}; try again later, or put {self.archive.name} into data.path yourself"
        )

    def _complete(self) -> None:
        """All bytes, unverified. Raises UserError after the last retry."""
        attempt, furthest = 0, self._done()
        while True:
            try:
                self._attempt()
                return
            except InterruptedDownloadError as error:
                if self._done() >= furthest + PROGRESS:
                    attempt, furthest = 0, self._done()
                if attempt == RETRIES:
                    self._give_up(f"{error} (attempt {attempt + 1}, the last; the beginning is stored)")
                time.sleep(max(error.wait, min(LONGEST_WAIT, BACKOFF * 2**attempt)))
                attempt += 1

    def _attempt(self) -> None:
        """One request for what is missing. Raises InterruptedDownloadError where something still is, UserError."""
        note = self._note()
        if note is None:
            self._restart()
        done = self._done()
        if note and note.total is not None and done >= note.total:
            return
        response = self._open(done, note)
        if response is None:
            return
        with response:
            if response.status == 206:
                note, expected = self._continue(response, done, note)
            elif response.status == 200:
                note, expected = self._start_over(response), response.length
            else:
                self._give_up(f"HTTP {response.status} without a file")
            self._check_space(note)
            self._receive(response, expected, note.total)
        done = self._done()
        if note.total is not None and done < note.total:
            raise InterruptedDownloadError(f"broke off after {done:,} of {note.total:,} bytes")

    def _open(self, done: int, note: ResumeNote | None) -> Any:
        """The response that brings the bytes from `done` on, or all; None where the server says there are no more."""
        headers = {"User-Agent": "divek"}  # some servers refuse Python's own
        if done and note:
            headers["Range"] = f"bytes={done}-"
            if note.validator:  # a file that has changed since comes whole
                headers["If-Range"] = note.validator
        try:
            request = urllib.request.Request(self.archive.url, headers=headers)
            return urllib.request.build_opener(HttpRedirects).open(request, timeout=TIMEOUT)
        except HTTPError as error:
            error.close()
            if error.code == 416 and done:  # the md5 shows whether we have all of it
                return None
            reason = f"HTTP {error.code} {' '.join(str(error.reason).split())}"
            if error.code >= 500 or error.code in TRY_AGAIN:
                raise InterruptedDownloadError(reason, retry_after(error.headers.get("Retry-After"))) from None
            self._give_up(reason)
        except (OSError, http.client.HTTPException, ValueError) as error:
            cause = error.reason if isinstance(error, URLError) else error
            if isinstance(cause, ValueError):  # an invalid URL or certificate
                self._give_up(cause)
            raise InterruptedDownloadError(cause) from None

    def _start_over(self, response: Any) -> ResumeNote:
        """Starts over with a response that brings the whole file."""
        self._restart()
        note = ResumeNote(self.archive.url, self.archive.md5, response.length, validator(response))
        self._write_note(note)
        return note

    def _continue(self, response: Any, done: int, note: ResumeNote | None) -> tuple[ResumeNote, int]:
        """The note and the bytes of a response that brings a part. Raises InterruptedDownloadError if it does not fit.

        Not every server heeds If-Range, so the response is looked at too.
        """
        match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|[*])", header(response, "Content-Range"))
        if note and done and match:
            first, last = int(match[1]), int(match[2])
            total = note.total if match[3] == "*" else int(match[3])
            kind = "ETag" if (note.validator or "").startswith('"') else "Last-Modified"
            changed = note.validator and header(response, kind) not in ("", note.validator)
            if first == done <= last and note.total in (None, total) and not changed:
                note = replace(note, total=total)
                self._write_note(note)
                part = last + 1 - first
                return note, min(part, part if response.length is None else response.length)
        self._restart()
        raise InterruptedDownloadError("the server's file has changed, or it sent another part than requested")

    def _check_space(self, note: ResumeNote) -> None:
        free, missing = shutil.disk_usage(self.part.parent).free, (note.total or 0) - self._done()
        if missing > free:
            raise UserError(
                f"{self.part.parent}: {self.archive.name} takes {missing:,} more bytes and {free:,} are free; "
                "make room, or put it elsewhere and set data.path"
            )

    def _receive(self, response: Any, expected: int | None, total: int | None) -> None:
        """Appends the response's bytes, at most `expected`. Raises InterruptedDownloadError."""
        done = self._done()
        self.file.seek(done)
        self.advance(done, total)
        while expected is None or expected > 0:
            try:
                content = response.read1(CHUNK if expected is None else min(CHUNK, expected))
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise InterruptedDownloadError(error) from None
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

    def _write_note(self, note: ResumeNote) -> None:
        write_text(self.note_file, json.dumps(asdict(note)))

    def _note(self) -> ResumeNote | None:
        """None where there is none, or one about another file."""
        with suppress(OSError, ValueError, TypeError):
            note = ResumeNote(**json.loads(self.note_file.read_text(encoding="utf-8")))
            whole = isinstance(note.total, int | None) and isinstance(note.validator, str | None)
            if whole and (note.url, note.md5) == (self.archive.url, self.archive.md5):
                return note
        return None
