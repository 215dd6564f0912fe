"""Whether two pictures show the same photograph: their thumbnails, laid over each other, agree in every detail.

A perceptual hash cannot say so: copies that were cropped, marked or re-exposed differ in as many bits as two pictures
that are merely alike. Here scale and shift of one thumbnail are fitted to the other by least squares, from coarse to
fine (Lucas and Kanade 1981, with gain and offset of the brightness as further unknowns). Of a copy, the brightness, the
colours and the edges then agree, and no part of it lies elsewhere: that tells it from another drawing of the same bird.
The limits below were set between 24 pairs of copies in Oxford Flowers and birds of the field guide (docs/datasets.md).
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pipeline.datasets.raster import Array, blurred, correlation, fine, moved, products, shrunk, slopes
from pipeline.datasets.thumbnails import COLOUR_SIDE, SIDE, Bytes, Rows, Thumbnails

ROUGH_SIDE, ROUGH_BRIGHTNESS, ROUGH_COLOURS = 16, 0.88, 0.8  # least correlations before anything is fitted
LEVELS = ((16, 6, 0.88, 0.75), (32, 6, 0.93, 0.8), (64, 4, 0.95, 0.8))
"""Side in pixels, steps of the fit, least correlation of brightness and of colours that a pair needs to go on."""

SURE_BITS = 6  # of the perceptual hash: within them the edges need not agree, as those of tiny pictures do not
LEAST_EDGES = 0.8  # correlation of the edges, over the whole and in the median tile
MOST_MOVED = (
    (0.7, 0.23),
    (0.85, 0.34),
    (0.95, 0.48),
)  # pixels that parts with this share of the edges may lie elsewhere
PLAIN_SHARE, PLAIN_DETAIL = 0.53, 0.6  # share of pixels that differ from their surroundings by less than this
PLAIN_BRIGHTNESS, PLAIN_EDGES = 0.98, 0.95  # least correlations of pictures with more of them, such as drawings
SHARPER, MOST_BLURS = 1.3, 3  # how much sharper one picture may be, and how often it is blurred for it
TILES = 4  # by TILES parts, each looked at alone
MOST_SCALE, MOST_SHIFT, MOST_STEP = 1.6, 0.25, 0.08  # of the fit; shift and step in sides
GREY, FLAT = 3.0, 0.5  # standard deviations under which there is no colour, and no picture at all
CLOSE = 2.0  # mean difference of two pictures that needs no fit
BATCH = 256  # pairs that are fitted at once: as fast as more of them, in less memory


def same_pictures(content: Bytes, left: Rows, right: Rows, distances: Rows) -> npt.NDArray[np.bool_]:
    """Which pairs show the same photograph.

    Args:
        content: thumbnails, (pictures, BYTES).
        left, right: the pairs, as rows of `content`.
        distances: bits between the perceptual hashes of each pair.

    Returns:
        (pairs,). Mirrored and rotated copies are not the same, nor are those cropped by more than about a fifth.
    """
    same = np.zeros(len(left), np.bool_)
    likely = np.flatnonzero(_roughly_same(content, left, right))
    for start in range(0, len(likely), BATCH):
        rows = likely[start : start + BATCH]
        same[rows] = _same(content[left[rows]], content[right[rows]], distances[rows] <= SURE_BITS)
    return same


def _roughly_same(content: Bytes, left: Rows, right: Rows) -> npt.NDArray[np.bool_]:
    """Correlations of small pictures as they lie: these clear most pairs at little cost."""
    small = Thumbnails.of(content, ROUGH_SIDE)
    brightness = small.brightness.reshape(len(content), -1)
    colours = np.stack([small.blue, small.red], 1).reshape(len(content), 2, -1)
    brightness, colours = (values - values.mean(-1, keepdims=True) for values in (brightness, colours))
    agreement = []
    for values, floor in ((brightness, FLAT), (colours.reshape(len(content), -1), GREY / 2)):
        size = np.sqrt((values * values).sum(1))
        unit = values / np.maximum(size, 1e-6)[:, None]
        has_none = size < floor * np.sqrt(values.shape[1])
        agreement.append(np.where(has_none[left] | has_none[right], 1, np.einsum("ij,ij->i", unit[left], unit[right])))
    return np.asarray((agreement[0] >= ROUGH_BRIGHTNESS) & (agreement[1] >= ROUGH_COLOURS))


def _same(left: Bytes, right: Bytes, sure: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    one, other = Thumbnails.of(left), Thumbnails.of(right)
    same = _close(one, other)
    rows = np.flatnonzero(~same)
    if not len(rows):
        return same
    one, other = one.take(rows), other.take(rows)
    place = np.tile(np.array([1, 1, 0, 0], np.float32), (len(rows), 1))
    for side, steps, brightness, colours in LEVELS:
        place = _fit(shrunk(one.brightness, side), shrunk(other.brightness, side), place, steps)
        fits = _brightness_agreement(one, other, place, side) >= brightness
        fits &= _colour_agreement(one, other, place, min(side, COLOUR_SIDE)) >= colours
        kept = np.flatnonzero(fits)
        rows, one, other, place = rows[kept], one.take(kept), other.take(kept), place[kept]
        if not len(rows):
            return same
        if side == LEVELS[0][0]:  # for few pairs, and of no effect on the coarsest level
            one, other = _equally_sharp(one, other)
    same[rows[sure[rows] | _edges_agree(one, other, place)]] = True
    return same


def _close(one: Thumbnails, other: Thumbnails) -> npt.NDArray[np.bool_]:
    """Pairs that hardly differ as they are, and that have the same shapes or are one plain colour."""
    near = np.ones(len(one.brightness), np.bool_)
    for name in ("brightness", "blue", "red"):
        near &= np.abs(getattr(one, name) - getattr(other, name)).mean((1, 2)) <= CLOSE
    plain = np.maximum(one.brightness.std((1, 2)), other.brightness.std((1, 2))) < FLAT
    alike = correlation(one.brightness, other.brightness, np.ones_like(one.brightness)) >= LEVELS[-1][2]
    return np.asarray(near & (plain | alike))


def _equally_sharp(one: Thumbnails, other: Thumbnails) -> tuple[Thumbnails, Thumbnails]:
    """With the brightness of the sharper one blurred: a copy may be of lower resolution than the thumbnail."""
    pictures = [one.brightness, other.brightness]
    for _ in range(MOST_BLURS):
        sharpness = [fine(picture).std((1, 2)) / (picture.std((1, 2)) + 1e-6) for picture in pictures]
        for side in (0, 1):
            too_sharp = np.flatnonzero(sharpness[side] > SHARPER * sharpness[1 - side])
            pictures[side] = pictures[side].copy()
            pictures[side][too_sharp] = blurred(pictures[side][too_sharp])
    return replace(one, brightness=pictures[0]), replace(other, brightness=pictures[1])


def _fit(one: Array, other: Array, place: Array, steps: int) -> Array:
    """`place` after some Gauss-Newton steps towards `other`, moved, being gain · `one` + offset."""
    side = one.shape[1]
    grid = ((np.arange(side) - (side - 1) / 2) / side).astype(np.float32)
    damping = np.array([1, 1, 1, 1, 0, 0], np.float32)
    for _ in range(steps):
        shifted, mask = moved(other, place)
        mask[:, [0, -1]] = mask[:, :, [0, -1]] = 0  # no slope there
        down, across = (slope * side for slope in slopes(shifted))
        columns = (down * grid[:, None], across * grid, down, across, shifted, np.ones_like(shifted))
        design = np.stack(columns, 1).reshape(len(one), 6, -1)
        weighed = design * mask.reshape(len(one), 1, -1)
        matrix = weighed @ design.transpose(0, 2, 1)
        size = np.trace(matrix, axis1=1, axis2=2)[:, None, None]
        matrix += np.diag(damping) * (1e-4 / 6 * size) + 1e-3 * np.eye(6, dtype=np.float32)
        solution = np.linalg.solve(matrix, weighed @ one.reshape(len(one), -1, 1))[:, :, 0]
        gain = np.maximum(solution[:, 4:5], 0.1)
        place = place + np.clip(solution[:, :4] / gain, -MOST_STEP, MOST_STEP)
        place[:, :2] = np.clip(place[:, :2], 1 / MOST_SCALE, MOST_SCALE)
        place[:, 2:] = np.clip(place[:, 2:], -MOST_SHIFT, MOST_SHIFT)
    return place


def _brightness_agreement(one: Thumbnails, other: Thumbnails, place: Array, side: int) -> Array:
    return correlation(shrunk(one.brightness, side), *moved(shrunk(other.brightness, side), place))


def _colour_agreement(one: Thumbnails, other: Thumbnails, place: Array, side: int) -> Array:
    """Correlation of both colour differences; 1 where a picture has hardly any colour."""
    total = np.zeros((3, len(place)), np.float32)
    for a, b in ((one.blue, other.blue), (one.red, other.red)):
        shifted, mask = moved(shrunk(b, side), place)
        total += np.stack(products(shrunk(a, side), shifted, mask))
    deviation = np.sqrt(total[1:].min(0) / (mask.sum((1, 2)) + 1e-6))
    return np.where(deviation < GREY, 1, total[0] / np.sqrt(total[1] * total[2] + 1e-6)).astype(np.float32)


def _edges_agree(one: Thumbnails, other: Thumbnails, place: Array) -> npt.NDArray[np.bool_]:
    """Whether the edges correlate, over the whole and in the median tile, and lie where the fit says."""
    shifted, mask = moved(other.brightness, place)
    mask = mask * (blurred(mask) > 0.99)
    a, b = (picture - blurred(blurred(picture)) for picture in (one.brightness, shifted))
    part = SIDE // TILES
    tiles = [x.reshape(-1, TILES, part, TILES, part).swapaxes(2, 3).reshape(-1, part, part) for x in (a, b, mask)]
    in_tiles = np.where(tiles[2].mean((1, 2)) > 0.5, correlation(*tiles), np.nan).reshape(-1, TILES * TILES)
    in_tiles[np.isnan(in_tiles).all(1)] = -1
    edges = correlation(a, b, mask)
    agree = (edges >= LEAST_EDGES) & (np.nanmedian(in_tiles, axis=1) >= LEAST_EDGES)
    # With little detail that could disagree, what there is must agree better.
    plain = _plain_share(one.brightness) > PLAIN_SHARE
    plain &= _plain_share(other.brightness) > PLAIN_SHARE
    agree &= ~plain | (edges >= PLAIN_EDGES) & (correlation(one.brightness, shifted, mask) >= PLAIN_BRIGHTNESS)
    distances, weights = _displacements(a, b, mask)
    order = np.argsort(distances, axis=1)
    distances, weights = (np.take_along_axis(values, order, 1) for values in (distances, weights))
    shares = np.cumsum(weights, axis=1) / (weights.sum(1, keepdims=True) + 1e-9)
    for share, most in MOST_MOVED:
        agree &= np.take_along_axis(distances, (shares >= share - 1e-6).argmax(1)[:, None], 1)[:, 0] <= most
    return np.asarray(agree)


def _plain_share(pictures: Array) -> Array:
    return np.asarray((np.abs(fine(pictures)) < PLAIN_DETAIL).mean((1, 2)))


def _displacements(one: Array, other: Array, mask: Array) -> tuple[Array, Array]:
    """By tile how far in pixels `one` lies from `other`, and how much edge there is, (pairs, tiles) each."""
    part = SIDE // TILES

    def total(values: Array) -> Array:
        in_tiles = (values * mask).reshape(-1, TILES, part, TILES, part)
        return np.asarray(in_tiles.sum((2, 4)).reshape(-1, TILES * TILES))

    gain = (one * other * mask).sum((1, 2)) / ((other * other * mask).sum((1, 2)) + 1e-6)
    other = np.asarray(other * gain[:, None, None], np.float32)
    down, across = slopes(np.asarray((one + other) / 2, np.float32))
    change = one - other
    floor = 0.02 * (total(down * down) + total(across * across)) + 1e-3 * part * part
    yy, xx, xy = total(down * down) + floor, total(across * across) + floor, total(down * across)
    y, x = total(down * change), total(across * change)
    determinant = yy * xx - xy * xy
    distance = np.hypot((xx * y - xy * x) / determinant, (yy * x - xy * y) / determinant)
    return distance, np.sqrt(yy + xx - 2 * floor)
