"""An atlas's cells and photographs whose names are known -> a name for each cell with its evidence, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from search.naming.naming import Evidence, Name, name_units, split
from search.naming.vocabulary import Bools, Concepts

from .grid import Cell

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = NDArray[np.float32]
# How much each cell beside a cell counts for its name: they hold like activations, and a cell alone has few.
BESIDE = 0.5
# Vectors, and directions, at once.
_ROWS, _DIRECTIONS = 16_384, 512


@dataclass(frozen=True)
class Seen:
    """Activations of photographs: `image`: (n,) the row of each in `members` (images, names).

    They are the `rows` of `source` (all, c).
    """

    source: Floats
    rows: NDArray[np.int64]
    image: NDArray[np.int64]
    members: Bools

    @classmethod
    def of(cls, vectors: Floats, image: NDArray[np.int64], numbers: NDArray[np.int64], members: Bools) -> Seen:
        """The activations of these images alone, rising numbers; members: a row for each of them."""
        rows = np.flatnonzero(np.isin(image, numbers))
        rows = rows[np.argsort(image[rows], kind="stable")]
        return cls(vectors, rows, np.searchsorted(numbers, image[rows]), members)

    @property
    def vectors(self) -> Floats:
        """(n, c)."""
        return np.asarray(self.source[self.rows])

    def values(self, directions: Floats, middle: Floats, *, most: bool) -> Floats:
        """(directions, images): how near an image's activations come to directions (n, c) from the middle (c,).

        The largest cosine of any of them, or with `most` false their mean.
        """
        ends = np.append(np.flatnonzero(np.diff(self.image, prepend=-1)), len(self.image))
        found = np.empty((len(directions), len(ends) - 1), np.float32)
        units = _unit(directions)
        for start, stop in zip(*_blocks(ends), strict=True):
            rows = slice(int(ends[start]), int(ends[stop]))
            cosines = units @ _unit(self.source[self.rows[rows]] - middle).T
            places = ends[start:stop] - ends[start]
            if most:
                found[:, start:stop] = np.maximum.reduceat(cosines, places, axis=1)
            else:
                found[:, start:stop] = np.add.reduceat(cosines, places, axis=1) / np.diff(ends[start : stop + 1])
        return found


def shared_out(
    vectors: Floats, image: NDArray[np.int64], numbers: NDArray[np.int64], concepts: Concepts, seed: int
) -> tuple[Seen, Seen]:
    """The activations of photographs that choose names, and of those that check them.

    numbers: the images that `concepts` is about. Images of which nothing is known or seen take no part.
    """
    kept = np.flatnonzero(concepts.known & np.isin(numbers, image))
    chooses, checks = split(len(kept), seed)
    first, second = (
        Seen.of(vectors, image, numbers[kept[part]], concepts.members[kept[part]]) for part in (chooses, checks)
    )
    return first, second


def name_cells(
    cells: Sequence[Cell], middle: Floats, choosing: Seen, checking: Seen, concepts: Concepts
) -> list[Name | None]:
    """Each cell's name, None where none holds: by the direction of its mean, and half as much of those beside it.

    cells: of one level; middle: (c,) the map's mean activation.
    """
    directions = around(cells) @ (np.stack([cell.mean for cell in cells]) - middle)
    found: list[Name | None] = []
    for start in range(0, len(cells), _DIRECTIONS):
        block = directions[start : start + _DIRECTIONS].astype(np.float32)
        first, second = (Evidence(seen.values(block, middle, most=True), seen.members) for seen in (choosing, checking))
        found += name_units(first, second, concepts)
    return found


def nearest_cells(vectors: Floats, cells: Sequence[Cell], middle: Floats) -> NDArray[np.int64]:
    """(n,) which cell's mean each of the vectors (n, c) points to, as seen from the map's middle."""
    means = _unit((np.stack([cell.mean for cell in cells]) - middle).astype(np.float32))
    blocks = range(0, len(vectors), _ROWS)
    found = [(_unit(vectors[start : start + _ROWS] - middle) @ means.T).argmax(1) for start in blocks]
    return np.concatenate(found) if found else np.empty(0, np.int64)


def around(cells: Sequence[Cell]) -> csr_array:
    """(cells, cells) how much each cell of a level counts for each: itself and those beside it, by their counts."""
    from scipy.sparse import csr_array

    where = {(cell.row, cell.col): number for number, cell in enumerate(cells)}
    rows, columns, weights = list[int](), list[int](), list[float]()
    for number, cell in enumerate(cells):
        near = ((cell.row + down, cell.col + across) for down in (-1, 0, 1) for across in (-1, 0, 1))
        beside = [where[place] for place in near if place in where]
        own = np.array([(1.0 if other == number else BESIDE) * cells[other].count for other in beside])
        rows += [number] * len(beside)
        columns += beside
        weights += (own / own.sum()).tolist()
    return csr_array((weights, (rows, columns)), shape=(len(cells), len(cells)))


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def _blocks(ends: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Where blocks of whole images begin and end, each of about so many rows that memory does not grow."""
    starts = [0]
    while starts[-1] < len(ends) - 1:
        limit = ends[starts[-1]] + _ROWS
        starts.append(max(starts[-1] + 1, int(np.searchsorted(ends, limit, side="right")) - 1))
    return starts[:-1], starts[1:]
