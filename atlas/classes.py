"""Which activations belong to a class, and what tells two classes apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featviz.errors import unknown

from .grid import Cell, cell_numbers
from .project import Floats, to_unit_square
from .sample import Sample

# How many a class atlas by magnitude takes, as the article does, which had 400,000 to take them from; of few, at most
# this share, since the rest have hardly to do with the class.
COUNT, SHARE = 2000, 1 / 40
BY = ("rank", "magnitude", "both")
# The classes beside A and B that a cell's photographs are told by.
_OTHERS = 3


def members(effects: Floats, label: int, *, by: str = "both", count: int | None = None) -> NDArray[np.int64]:
    """Rows of effects (n, classes) that belong to a class, ascending.

    by `rank`: those whose strongest effect is on the class; by `magnitude`: the `count` with the strongest effect on
    it, as far as it is above 0 (None: 2,000, but no more than one in 40); `both`: those in either, once. Carter et al.
    2019, "Activation Atlas": class atlases.
    """
    if by not in BY:
        raise unknown("way to choose activations, --by", by, list(BY))
    winners = np.flatnonzero(effects.argmax(1) == label)
    own = effects[:, label]
    if count is None:
        count = min(COUNT, round(SHARE * len(effects)))
    strongest = np.argsort(-own, kind="stable")[:count]
    strongest = np.sort(strongest[own[strongest] > 0])
    if by == "both":
        return np.union1d(winners, strongest)
    return winners if by == "rank" else strongest


def gradient_layout(effects: Floats, a: int, b: int, line: Callable[[], NDArray[np.floating]]) -> tuple[Floats, float]:
    """Points (n, 2) in the unit square: x from what speaks for class a to what speaks for b, y by similarity.

    x is the effect on b minus that on a in units of the 99th percentile of its size, clipped, so that 0 lies in the
    middle; also returned: that unit. line: () -> (n,) the vectors laid out on a line. Carter et al. 2019.
    """
    difference = effects[:, b].astype(np.float64) - effects[:, a]
    unit = float(np.percentile(np.abs(difference), 99)) or 1.0
    across = (np.clip(difference / unit, -1, 1) + 1) / 2
    down = to_unit_square(np.asarray(line(), dtype=np.float64).reshape(-1, 1))[:, 0]
    return np.stack([across, down], 1).astype(np.float32), unit


@dataclass(frozen=True)
class Telling:
    """A cell that tells two classes apart.

    `cell`: its key; `difference`: mean effect on b minus that on a; `count` vectors of `images` images; `top`: the
    classes, other than the two, that it has the largest effect on, with the effects; `nearest`: rows of the sample
    nearest to the cell's mean; `name`: what the cell is called, '' where no name holds.
    """

    cell: str
    difference: float
    count: int
    images: int
    top: tuple[tuple[int, float], ...]
    nearest: tuple[int, ...]
    name: str = ""


def telling_cells(cells: Sequence[Cell], found: Sample, xy: Floats, a: int, b: int) -> tuple[Telling, ...]:
    """The cells of one level by how much they tell class a from class b, most first."""
    assert found.effects is not None
    numbers = cell_numbers(xy, cells[0].level)
    rows = []
    for cell in cells:
        inside = np.flatnonzero(numbers == cell.row * cell.level + cell.col)
        own = found.effects[inside].astype(np.float64)
        difference = own[:, b] - own[:, a]
        mean = own.mean(0)
        others = [int(label) for label in np.argsort(-mean, kind="stable") if label not in (a, b)][:_OTHERS]
        images = len(np.unique(found.image[inside]))
        top = tuple((label, float(mean[label])) for label in others)
        name = "" if cell.name is None else cell.name.text
        rows.append(Telling(cell.key, float(difference.mean()), len(inside), images, top, cell.nearest, name))
    return tuple(sorted(rows, key=lambda row: (-abs(row.difference), row.cell)))
