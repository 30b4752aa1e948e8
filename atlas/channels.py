"""The channels that stand out in an atlas's cells, and their superstimuli."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from featviz.draw.drawing import Drawing
from featviz.draw.superstimuli import draw
from featviz.network.units import Unit
from featviz.run.keep import Under

from .grid import Cell
from .icons import as_rgb
from .project import Floats
from .stages import Stages

# Channels that a cell names; cells of a level from which those that they name are too many to tell about.
CHANNELS, MANY = 5, 1000
# Vectors at once in double precision.
_ROWS = 16_384
# Pixels per side of a superstimulus.
_SIDE = 128


def strong_channels(cells: Sequence[Cell], vectors: Floats) -> NDArray[np.int32]:
    """(cells, CHANNELS) columns of `vectors` whose mean in a cell is the most deviations above that of all, else -1."""
    mean, spread = _moments(vectors)
    means = np.stack([cell.mean for cell in cells]) if cells else np.empty((0, vectors.shape[1]))
    order = np.argsort(-(means - mean) / spread, axis=1, kind="stable")[:, :CHANNELS].astype(np.int32)
    return np.pad(order, ((0, 0), (0, CHANNELS - order.shape[1])), constant_values=-1)


def _moments(vectors: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(c,) mean and standard deviation of vectors (n, c), which may be more than memory holds."""
    shift = vectors[:_ROWS].mean(0, dtype=np.float64)
    total, squares = np.zeros_like(shift), np.zeros_like(shift)
    for start in range(0, len(vectors), _ROWS):
        apart = vectors[start : start + _ROWS].astype(np.float64) - shift
        total += apart.sum(0)
        squares += np.square(apart).sum(0)
    mean = total / len(vectors)
    return shift + mean, np.sqrt((squares / len(vectors) - mean**2).clip(0)) + 1e-12


def named_channels(cells: Sequence[Cell], vectors: Floats) -> list[int]:
    """Columns of `vectors` that the cells of the levels with at most MANY of them name, in order."""
    counts = Counter(cell.level for cell in cells)
    told = [cell for cell in cells if counts[cell.level] <= MANY]
    return sorted({int(column) for column in strong_channels(told, vectors).flat if column >= 0})


def draw_superstimuli(run: Stages, channels: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
    """Channel -> the picture (128, 128, 3) that excites it the most, as `atlas render` draws it in as many steps."""
    wanted = run.settings
    drawing = Drawing(
        size=_SIDE, steps=wanted.steps, seed=wanted.seed, precision=wanted.precision, compiled=wanted.compiled
    )
    units = {Unit(wanted.layer, channel): channel for channel in channels}
    drawn = draw(
        run.model, list(units), drawing, keep=Under("channels", run.keep), engine=run.engine,
        progress=lambda stage, done, total: run.progress("drawing channels", done, total),
    )  # fmt: skip
    show = run.model.preprocess.show
    return {units[unit]: as_rgb(torch.from_numpy(arrays["pictures"]), show)[0] for unit, arrays in drawn.items()}
