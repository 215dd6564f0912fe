"""Whether two pictures show the same photograph: their thumbnails, laid over each other, agree in every detail.

A perceptual hash cannot say so: copies that were cropped, marked or re-exposed differ in as many bits as two pictures
that are merely alike. Here scale and shift of one thumbnail are fitted to the other by least squares, from coarse to
fine (Lucas and Kanade 1981, with gain and offset of the brightness as further unknowns). Of a copy, the brightness, the
colours and the edges then agree, and no part of it lies elsewhere: that tells it from another drawing of the same bird.
The limits below were set between 24 pairs of copies in Oxford Flowers and birds of the field guide (docs/datasets.md).
"""

import numpy as np
import numpy.typing as npt

from pipeline.datasets.thumbnails import COLOUR_SIDE, SIDE, Array, Bytes, Rows, Thumbnails, shrunk

ROUGH_SIDE, ROUGH_BRIGHTNESS, ROUGH_COLOURS = 16, 0.85, 0.75  # least correlations before anything is fitted
LEVELS = ((16, 6, 0.88, 0.75), (32, 6, 0.93, 0.8), (64, 4, 0.95, 0.8))
"""Side in pixels, steps of the fit, least correlation of brightness and of colours that a pair needs to go on."""

LEAST_EDGES = 0.8  # correlation of the edges, over the whole and in the median tile
MOST_MOVED = (
    (0.7, 0.23),
    (0.85, 0.34),
    (0.95, 0.48),
)  # pixels that parts with this share of the edges may lie elsewhere
PLAIN_SHARE, PLAIN_DETAIL = 0.53, 0.6  # share of pixels that differ from their surroundings by less than this
PLAIN_BRIGHTNESS, PLAIN_EDGES = 0.98, 0.95  # least correlations of pictures with more of them, such as drawings
TILES = 4  # by TILES parts, each looked at alone
MOST_SCALE, MOST_SHIFT, MOST_STEP = 1.6, 0.25, 0.08  # of the fit; shift and step in sides
GREY, FLAT = 3.0, 0.5  # standard deviations under which there is no colour, and no picture at all
CLOSE = 2.0  # mean difference of two pictures that needs no fit
BATCH = 256  # pairs that are fitted at once: as fast as more of them, in less memory


def same_pictures(content: Bytes, left: Rows, right: Rows) -> npt.NDArray[np.bool_]:
    """Which pairs show the same photograph.

    Args:
        content: thumbnails, (pictures, BYTES).
        left, right: the pairs, as rows of `content`.

    Returns:
        (pairs,). Mirrored and rotated copies are not the same, nor are those cropped by more than about a fifth.
    """
    same = np.zeros(len(left), np.bool_)
    likely = np.flatnonzero(_roughly_same(content, left, right))
    for start in range(0, len(likely), BATCH):
        rows = likely[start : start + BATCH]
        same[rows] = _same(content[left[rows]], content[right[rows]])
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


def _same(left: Bytes, right: Bytes) -> npt.NDArray[np.bool_]:
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
    same[rows[_edges_agree(one, other, place)]] = True
    return same


def _close(one: Thumbnails, other: Thumbnails) -> npt.NDArray[np.bool_]:
    """Pairs that hardly differ as they are, and that have the same shapes or are one plain colour."""
    near = np.ones(len(one.brightness), np.bool_)
    for name in ("brightness", "blue", "red"):
        near &= np.abs(getattr(one, name) - getattr(other, name)).mean((1, 2)) <= CLOSE
    plain = np.maximum(one.brightness.std((1, 2)), other.brightness.std((1, 2))) < FLAT
    alike = _correlation(one.brightness, other.brightness, np.ones_like(one.brightness)) >= LEVELS[-1][2]
    return np.asarray(near & (plain | alike))


def _moved(pictures: Array, place: Array) -> tuple[Array, Array]:
    """`pictures` scaled and shifted by `place` (scales down and across, then shifts), and a mask of where they are."""
    side = pictures.shape[1]
    middle = (side - 1) / 2
    grids, inside = [], []
    for axis in (0, 1):
        at = middle + (np.arange(side) - middle) * place[:, axis, None] + side * place[:, axis + 2, None]
        grids.append(np.maximum(0, 1 - np.abs(at[:, :, None] - np.arange(side))).astype(np.float32))
        inside.append((at >= 0) & (at <= side - 1))
    mask = inside[0][:, :, None] & inside[1][:, None, :]
    return np.asarray(grids[0] @ pictures @ grids[1].transpose(0, 2, 1), np.float32), mask.astype(np.float32)


def _fit(one: Array, other: Array, place: Array, steps: int) -> Array:
    """`place` after some Gauss-Newton steps towards `other`, moved, being gain · `one` + offset."""
    side = one.shape[1]
    grid = ((np.arange(side) - (side - 1) / 2) / side).astype(np.float32)
    damping = np.array([1, 1, 1, 1, 0, 0], np.float32)
    for _ in range(steps):
        moved, mask = _moved(other, place)
        mask[:, [0, -1]] = mask[:, :, [0, -1]] = 0  # no slope there
        down, across = (slope * side for slope in _slopes(moved))
        columns = (down * grid[:, None], across * grid, down, across, moved, np.ones_like(moved))
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


def _slopes(pictures: Array) -> tuple[Array, Array]:
    down, across = np.zeros_like(pictures), np.zeros_like(pictures)
    down[:, 1:-1] = (pictures[:, 2:] - pictures[:, :-2]) / 2
    across[:, :, 1:-1] = (pictures[:, :, 2:] - pictures[:, :, :-2]) / 2
    return down, across


def _products(one: Array, other: Array, mask: Array) -> tuple[Array, Array, Array]:
    """Covariance and variances under the mask, (pairs,) each, times its area."""
    area = mask.sum((1, 2), keepdims=True) + 1e-6
    a, b = ((picture - (picture * mask).sum((1, 2), keepdims=True) / area) * mask for picture in (one, other))
    return (a * b).sum((1, 2)), (a * a).sum((1, 2)), (b * b).sum((1, 2))


def _correlation(one: Array, other: Array, mask: Array) -> Array:
    both, left, right = _products(one, other, mask)
    return np.asarray(both / np.sqrt(left * right + 1e-6))


def _brightness_agreement(one: Thumbnails, other: Thumbnails, place: Array, side: int) -> Array:
    return _correlation(shrunk(one.brightness, side), *_moved(shrunk(other.brightness, side), place))


def _colour_agreement(one: Thumbnails, other: Thumbnails, place: Array, side: int) -> Array:
    """Correlation of both colour differences; 1 where a picture has hardly any colour."""
    total = np.zeros((3, len(place)), np.float32)
    for a, b in ((one.blue, other.blue), (one.red, other.red)):
        moved, mask = _moved(shrunk(b, side), place)
        total += np.stack(_products(shrunk(a, side), moved, mask))
    deviation = np.sqrt(total[1:].min(0) / (mask.sum((1, 2)) + 1e-6))
    return np.where(deviation < GREY, 1, total[0] / np.sqrt(total[1] * total[2] + 1e-6)).astype(np.float32)


def _edges_agree(one: Thumbnails, other: Thumbnails, place: Array) -> npt.NDArray[np.bool_]:
    """Whether the edges correlate, over the whole and in the median tile, and lie where the fit says."""
    moved, mask = _moved(other.brightness, place)
    mask = mask * (_blurred(mask) > 0.99)
    a, b = (picture - _blurred(_blurred(picture)) for picture in (one.brightness, moved))
    part = SIDE // TILES
    tiles = [x.reshape(-1, TILES, part, TILES, part).swapaxes(2, 3).reshape(-1, part, part) for x in (a, b, mask)]
    in_tiles = np.where(tiles[2].mean((1, 2)) > 0.5, _correlation(*tiles), np.nan).reshape(-1, TILES * TILES)
    in_tiles[np.isnan(in_tiles).all(1)] = -1
    edges = _correlation(a, b, mask)
    agree = (edges >= LEAST_EDGES) & (np.nanmedian(in_tiles, axis=1) >= LEAST_EDGES)
    # With little detail that could disagree, what there is must agree better.
    plain = _plain_share(one.brightness) > PLAIN_SHARE
    plain &= _plain_share(other.brightness) > PLAIN_SHARE
    agree &= ~plain | (edges >= PLAIN_EDGES) & (_correlation(one.brightness, moved, mask) >= PLAIN_BRIGHTNESS)
    distances, weights = _displacements(a, b, mask)
    order = np.argsort(distances, axis=1)
    distances, weights = (np.take_along_axis(values, order, 1) for values in (distances, weights))
    shares = np.cumsum(weights, axis=1) / (weights.sum(1, keepdims=True) + 1e-9)
    for share, most in MOST_MOVED:
        agree &= np.take_along_axis(distances, (shares >= share - 1e-6).argmax(1)[:, None], 1)[:, 0] <= most
    return np.asarray(agree)


def _plain_share(pictures: Array) -> Array:
    return np.asarray((np.abs(pictures - _blurred(pictures)) < PLAIN_DETAIL).mean((1, 2)))


def _displacements(one: Array, other: Array, mask: Array) -> tuple[Array, Array]:
    """By tile how far in pixels `one` lies from `other`, and how much edge there is, (pairs, tiles) each."""
    part = SIDE // TILES

    def total(values: Array) -> Array:
        in_tiles = (values * mask).reshape(-1, TILES, part, TILES, part)
        return np.asarray(in_tiles.sum((2, 4)).reshape(-1, TILES * TILES))

    gain = (one * other * mask).sum((1, 2)) / ((other * other * mask).sum((1, 2)) + 1e-6)
    other = np.asarray(other * gain[:, None, None], np.float32)
    down, across = _slopes(np.asarray((one + other) / 2, np.float32))
    change = one - other
    floor = 0.02 * (total(down * down) + total(across * across)) + 1e-3 * part * part
    yy, xx, xy = total(down * down) + floor, total(across * across) + floor, total(down * across)
    y, x = total(down * change), total(across * change)
    determinant = yy * xx - xy * xy
    distance = np.hypot((xx * y - xy * x) / determinant, (yy * x - xy * y) / determinant)
    return distance, np.sqrt(yy + xx - 2 * floor)


def _blurred(pictures: Array) -> Array:
    """By the binomial kernel of five; the edge is continued."""
    side = pictures.shape[1]
    matrix = np.zeros((side, side), np.float32)
    for step, weight in zip(range(-2, 3), (1, 4, 6, 4, 1), strict=True):
        matrix[np.arange(side), np.clip(np.arange(side) + step, 0, side - 1)] += weight / 16
    return np.asarray(matrix @ pictures @ matrix.T, np.float32)
