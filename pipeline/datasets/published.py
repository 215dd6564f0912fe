"""What the authors of a data set publish: archives with their checksums."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """A file that others publish."""

    url: str
    name: str  # of the file, here
    md5: str


@dataclass(frozen=True)
class Published:
    """A file that a data set's authors publish; without a URL where they no longer do.

    Attributes:
        unpacked: any of these paths is there where the file was unpacked; a file that is no archive shows itself.
        optional: a protocol can do without it.
        pictures: it holds pictures alone, under the first of `unpacked`: it is needed only if one of these is.
    """

    archive: Archive
    unpacked: tuple[str, ...]
    optional: bool = False
    pictures: bool = False

    @property
    def packed(self) -> bool:
        return self.archive.name not in self.unpacked
