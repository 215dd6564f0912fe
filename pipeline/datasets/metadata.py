"""Metadata files of official data sets: read strictly, and every error names the file and where to get it."""

import json
import struct
import zlib
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.params import UserError

LARGEST_MAT = 2**24  # bytes; the largest official one has 4 MB
MAT_HEADER = 128  # bytes
MAT_COMPRESSED = 15  # miCOMPRESSED
COOP = (
    "CoOp's DATASETS.md (github.com/KaiyangZhou/CoOp) links to it: put it, under this name, into the folder data.path"
)


@dataclass(frozen=True)
class Metadata:
    """A metadata file, and where to get it. All methods raise UserError with the file's name."""

    file: Path
    origin: str

    def fault(self, problem: str, expected: str) -> UserError:
        return UserError(f"{self.file}: {problem}, expected {expected}; {self.origin}")

    def content(self) -> bytes:
        try:
            return self.file.read_bytes()
        except FileNotFoundError:
            raise self.fault("no such file", "this file of the official data set") from None
        except OSError as error:
            raise self.fault(f"cannot be read ({error.strerror})", "a file") from None

    def lines(self) -> list[str]:
        """Lines without outer blanks; empty lines and comments (#) are left out."""
        try:
            stripped = [line.strip() for line in self.content().decode().splitlines()]
        except UnicodeDecodeError as error:
            raise self.fault(f"not UTF-8 text ({error.reason})", "a text file") from None
        lines = [line for line in stripped if line and not line.startswith("#")]
        if not lines:
            raise self.fault("no lines", "one line for each image or class")
        return lines

    def keyed(self, form: str) -> dict[str, list[str]]:
        """Lines of the fields that `form` names, by the first field. Only the last field may hold blanks."""
        count = len(form.split())
        table: dict[str, list[str]] = {}
        for line in self.lines():
            first, *rest = line.split(maxsplit=count - 1)
            if len(rest) != count - 1:
                raise self.fault(f"the line {line!r}", f"{count} fields, {form}")
            if first in table:
                raise self.fault(f"{first!r} on two lines", "one line each")
            table[first] = rest
        return table

    def json(self) -> Any:
        try:
            return json.loads(self.content())
        except ValueError as error:
            raise self.fault(f"not valid JSON ({error})", "the whole file") from None

    def mat(self, *names: str) -> list[Any]:
        """The MATLAB arrays of these names, flattened."""
        import io

        from scipy.io import loadmat

        content = self.content()
        if unpacked_size(content) > LARGEST_MAT:
            raise self.fault(f"more than {LARGEST_MAT:,} bytes once unpacked", "the official one")
        try:
            problem = loadmat(io.BytesIO(content))
        # A cut file ends in whatever error the bytes lead to: ValueError, TypeError, zlib.error, MatReadError …
        except Exception as error:
            raise self.fault(f"not a whole MATLAB file ({error})", "the official one") from None
        for name in names:
            if name not in problem:
                raise self.fault(f"no array {name!r}", f"the arrays {', '.join(names)}")
        return [problem[name].ravel() for name in names]

    def label(self, value: object, count: int, of: str) -> int:
        """A 1-based label as a 0-based class."""
        text = str(value)
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= count):
            raise self.fault(f"class {text!r} of {of}", f"a whole number from 1 to {count}")
        return int(text) - 1

    def covers(self, problem: Collection[str], expected: Collection[str], of: str) -> None:
        """UserError unless this file names each of `expected` once, and nothing else."""
        duplicates = [key for key, times in Counter(list(problem)).items() if times > 1]
        unknown, missing = sorted(set(problem) - set(expected)), sorted(set(expected) - set(problem))
        if duplicates or unknown:
            raise self.fault(
                f"{duplicates[0]!r} twice" if duplicates else f"unknown {of} {unknown[0]!r}", f"each {of} once"
            )
        if missing:
            raise self.fault(f"{len(missing)} missing, first {of} {missing[0]!r}", f"all {len(expected)}")


def unpacked_size(mat: bytes) -> int:
    """The bytes that the compressed elements of a MATLAB 5 file have once unpacked, counted up to LARGEST_MAT.

    0.5 MB can hold 0.5 GB, and each number in a cell becomes an object of a hundred bytes.
    """
    size, place = len(mat), MAT_HEADER
    while place + 8 <= len(mat):
        kind, length = struct.unpack_from("<II", mat, place)
        if kind != MAT_COMPRESSED:
            break
        with suppress(zlib.error):
            size += len(zlib.decompressobj().decompress(mat[place + 8 : place + 8 + length], LARGEST_MAT))
        if size > LARGEST_MAT:
            break
        place += 8 + length
    return size


def find_folder(root: Path, holding: str, *inner: str) -> Path:
    """The first of root/inner that has the file `holding`; where none has, the first, for the message that follows."""
    places = [root / place for place in inner]
    return next((place for place in places if (place / holding).is_file()), places[0])
