"""Points and vectors -> the cells of a grid, at several resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from search.naming.naming import Name

Floats = NDArray[np.float32]
# Vectors at once in double precision.
_ROWS = 16_384


@dataclass(frozen=True)
class Cell:
    """One cell of a grid of `level` x `level`: column 0 is left, row 0 is top.

    `count`: how many vectors fell in; `xy`: the mean of their points (x to the right, y down, in the unit square);
    `mean`: (c,) mean of their raw activations; `exemplars`: (image, row, column) of the members nearest to the mean by
    cosine, best first; `nearest`: which vectors those are, by their row in the sample; `top`: (class, effect) pairs,
    strongest first, where effects are known; `score`: how well the icon does its job, the cosine, in [-1, 1], between
    the whitened mean and the activation that the icon causes, its mean over `robust_views`; `clean`: in one pass of the
    icon as it is; `name`: what it is called, where a name holds.
    """

    level: int
    row: int
    col: int
    count: int
    xy: tuple[float, float]
    mean: Floats = field(repr=False, compare=False)
    exemplars: tuple[tuple[int, int, int], ...] = ()
    top: tuple[tuple[int, float], ...] = ()
    score: float | None = None
    clean: float | None = None
    nearest: tuple[int, ...] = ()
    name: Name | None = None

    @property
    def key(self) -> str:
        """The cell's name, unique among all levels."""
        return f"{self.level}/{self.row}/{self.col}"


def cell_numbers(xy: Floats, level: int) -> NDArray[np.int64]:
    """(n,) row * level + column of the cell of each point; cells are half-open, so each point lies in exactly one."""
    if xy.ndim != 2 or xy.shape[1] != 2 or level < 1:
        raise ValueError(f"one point (x, y) per row and a level of at least 1: xy {xy.shape}, level {level}")
    columns, rows = np.minimum((np.asarray(xy, np.float64) * level).astype(np.int64), level - 1).T
    numbers: NDArray[np.int64] = rows * level + columns
    return numbers


def bin_cells(
    xy: Floats,
    vectors: Floats,
    image: NDArray[np.int64],
    position: NDArray[np.int64],
    *,
    levels: Sequence[int],
    min_count: int = 1,
    exemplars: int = 5,
    effects: Floats | None = None,
) -> tuple[Cell, ...]:
    """Cells with at least `min_count` vectors, level by level, row by row.

    xy: (n, 2) in the unit square; vectors: (n, c); image: (n,); position: (n, 2); effects: (n, classes), of which each
    cell gets the classes with the largest means.
    """
    if not len(xy) == len(vectors) == len(image) == len(position):
        raise ValueError(f"one vector per point: xy {xy.shape}, vectors {vectors.shape}, image {image.shape}")
    cells = []
    for level in levels:
        numbers = cell_numbers(xy, level)
        order = np.argsort(numbers, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
            if len(members) >= max(1, min_count):
                row, col = divmod(int(numbers[members[0]]), level)
                mean = _mean(vectors, members).astype(np.float32)
                middle = xy[members].mean(0, dtype=np.float64)
                near = _nearest_members(members, vectors, image, mean, exemplars)
                places = tuple((int(image[m]), int(position[m, 0]), int(position[m, 1])) for m in near)
                top = () if effects is None else _top_classes(_mean(effects, members))
                where = (float(middle[0]), float(middle[1]))
                cells.append(Cell(level, row, col, len(members), where, mean, places, top, nearest=tuple(near)))
    return tuple(cells)


def _blocks(members: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Members by so many that memory does not grow with a cell: vectors may lie on disk."""
    return [members[start : start + _ROWS] for start in range(0, len(members), _ROWS)]


def _mean(rows: Floats, members: NDArray[np.int64]) -> NDArray[np.float64]:
    """(c,) mean of the members' rows of (n, c)."""
    total: NDArray[np.float64] = sum(rows[block].sum(0, dtype=np.float64) for block in _blocks(members))
    return total / len(members)


def _cosines(inside: Floats, mean: Floats) -> NDArray[np.float64]:
    wide = inside.astype(np.float64)
    cosines: NDArray[np.float64] = wide @ mean / np.maximum(np.linalg.norm(wide, axis=1), 1e-12)
    return cosines


def _top_classes(effects: NDArray[np.float64], count: int = 5) -> tuple[tuple[int, float], ...]:
    order = np.argsort(-effects, kind="stable")[:count]
    return tuple((int(label), float(effects[label])) for label in order)


def _nearest_members(
    members: NDArray[np.int64], vectors: Floats, image: NDArray[np.int64], mean: Floats, count: int
) -> list[int]:
    """Members by cosine with the mean, best first, each image once while there are enough images."""
    cosines = np.concatenate([_cosines(vectors[block], mean) for block in _blocks(members)])
    ranked = members[np.argsort(-cosines, kind="stable")]
    first_of_image = set(np.unique(image[ranked], return_index=True)[1].tolist())
    spread = sorted(range(len(ranked)), key=lambda place: place not in first_of_image)
    return [int(ranked[place]) for place in spread[:count]]
