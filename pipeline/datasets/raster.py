"""Operations on many small pictures of one band at once, (pictures, rows, columns) each."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


def shrunk(pictures: npt.NDArray[Any], side: int) -> Array:
    """(pictures, n, n) as means of whole blocks, (pictures, side, side); n is `side` times a power of two."""
    smaller: Array = pictures.astype(np.float32, copy=False)
    while smaller.shape[1] > side:  # several times faster than one mean over both axes
        rows = smaller[:, ::2] + smaller[:, 1::2]
        smaller = (rows[:, :, ::2] + rows[:, :, 1::2]) * np.float32(0.25)
    return smaller


def moved(pictures: Array, place: Array) -> tuple[Array, Array]:
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


def slopes(pictures: Array) -> tuple[Array, Array]:
    """Change per pixel, down and across; 0 at the edge."""
    down, across = np.zeros_like(pictures), np.zeros_like(pictures)
    down[:, 1:-1] = (pictures[:, 2:] - pictures[:, :-2]) / 2
    across[:, :, 1:-1] = (pictures[:, :, 2:] - pictures[:, :, :-2]) / 2
    return down, across


def products(one: Array, other: Array, mask: Array) -> tuple[Array, Array, Array]:
    """Covariance and variances under the mask, (pairs,) each, times its area."""
    area = mask.sum((1, 2), keepdims=True) + 1e-6
    a, b = ((picture - (picture * mask).sum((1, 2), keepdims=True) / area) * mask for picture in (one, other))
    return (a * b).sum((1, 2)), (a * a).sum((1, 2)), (b * b).sum((1, 2))


def correlation(one: Array, other: Array, mask: Array) -> Array:
    """Under the mask, (pictures,); 0 where a picture is plain."""
    both, left, right = products(one, other, mask)
    return np.asarray(both / np.sqrt(left * right + 1e-6))


def fine(pictures: Array) -> Array:
    """What blurring takes away."""
    return pictures - blurred(pictures)


def blurred(pictures: Array) -> Array:
    """By the binomial kernel of five; the edge is continued."""
    side = pictures.shape[1]
    matrix = np.zeros((side, side), np.float32)
    for step, weight in zip(range(-2, 3), (1, 4, 6, 4, 1), strict=True):
        matrix[np.arange(side), np.clip(np.arange(side) + step, 0, side - 1)] += weight / 16
    return np.asarray(matrix @ pictures @ matrix.T, np.float32)
