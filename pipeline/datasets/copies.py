"""Groups the images that show the same picture: by content, and by perceptual hash with a second look."""

from collections.abc import Callable, Iterator, Sequence

import polars as pl

HASH_BITS = 256
BLOCK = 256  # images compared with all others at once
PAIRS = 4096  # candidates looked at together; their thumbnails are in memory


def with_copies(rows: pl.DataFrame, read: Callable[[int], bytes], distance: int) -> pl.DataFrame:
    """`rows` with the column `copies` of the table of images.

    Images of the same content are copies. So are those whose perceptual hashes differ in at most `distance` bits and
    whose thumbnails agree in detail (alignment.py), and the copies of copies. Images that cannot be read have none.

    Args:
        rows: image_id, status, content, perceptual_hash and thumbnail, a number that `read` gives the bytes of.
        distance: bits of the 256 that may differ; -1 compares the content alone.
    """
    readable = rows.filter(status="ok").sort("image_id")
    groups = Groups(readable.height)
    first: dict[str, int] = {}
    for number, content in enumerate(readable["content"]):
        groups.join(first.setdefault(content, number), number)
    if distance >= 0:
        # One image of each content is enough.
        numbers = sorted(first.values())
        _join_similar(readable[numbers], numbers, groups, read, distance)
    ids = readable["image_id"].to_list()
    roots = [groups.root(number) for number in range(len(ids))]
    sizes = pl.Series(roots, dtype=pl.Int64).value_counts(name="size")
    several = {root for root, size in sizes.iter_rows() if size > 1}
    copies = {ids[number]: ids[root] for number, root in enumerate(roots) if root in several}
    column = pl.Series("copies", [copies.get(image_id) for image_id in rows["image_id"]], pl.String)
    return rows.with_columns(column)


class Groups:
    """Numbers in groups that grow together; the root of a group is its least number."""

    def __init__(self, size: int):
        self._parents = list(range(size))

    def root(self, number: int) -> int:
        while (parent := self._parents[number]) != number:
            self._parents[number] = self._parents[parent]
            number = parent
        return number

    def join(self, one: int, other: int) -> None:
        roots = sorted((self.root(one), self.root(other)))
        self._parents[roots[1]] = roots[0]


def candidates(hashes: Sequence[str], distance: int) -> Iterator[tuple[list[int], list[int], list[int]]]:
    """Pairs of `hashes`, hexadecimal, within `distance` bits: left and right numbers, left < right, and the bits.

    A block at a time: what is in memory does not grow with the number of pairs.
    """
    import numpy as np

    words = np.frombuffer(b"".join(map(bytes.fromhex, hashes)), np.uint64).reshape(-1, HASH_BITS // 64)
    for start in range(0, len(words), BLOCK):
        block, others = words[start : start + BLOCK], words[start:]
        bits = np.zeros((len(block), len(others)), np.uint16)
        for word in range(words.shape[1]):  # word by word: less memory
            bits += np.bitwise_count(block[:, word, None] ^ others[None, :, word])
        left, right = np.nonzero(bits <= distance)
        after = left < right
        left, right = left[after], right[after]
        for first in range(0, len(left), PAIRS):
            one, other = left[first : first + PAIRS], right[first : first + PAIRS]
            yield (one + start).tolist(), (other + start).tolist(), bits[one, other].tolist()


def _join_similar(
    rows: pl.DataFrame, numbers: Sequence[int], groups: Groups, read: Callable[[int], bytes], distance: int
) -> None:
    import numpy as np

    from pipeline.datasets.alignment import same_pictures

    thumbnails = rows["thumbnail"].to_list()
    for batch in candidates(rows["perceptual_hash"].to_list(), distance):
        apart = [
            (one, other, bits)
            for one, other, bits in zip(*batch, strict=True)
            if groups.root(numbers[one]) != groups.root(numbers[other])
        ]
        if not apart:
            continue
        ends, distances = np.array([pair[:2] for pair in apart]), np.array([pair[2] for pair in apart])
        pairs, places = np.unique(ends, return_inverse=True)
        content = np.stack([np.frombuffer(read(thumbnails[row]), np.uint8) for row in pairs])
        left, right = places.reshape(-1, 2).T
        for number in np.flatnonzero(same_pictures(content, left, right, distances)):
            one, other = ends[number].tolist()
            groups.join(numbers[one], numbers[other])
