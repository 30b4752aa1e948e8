"""The channels that stand out in an atlas's cells, and their superstimuli."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featviz.maximize import chunk_for, maximize
from featviz.output import Arrays
from featviz.trunk import Trunk
from featviz.units import Unit, objective

from .grid import Cell
from .icons import as_rgb
from .project import Floats
from .stages import Stages

# Channels that a cell names; cells of a level from which those that they name are too many to tell about.
CHANNELS, MANY = 5, 1000
# Pixels per side of a superstimulus.
_SIDE = 128


def strong_channels(cells: Sequence[Cell], vectors: Floats) -> NDArray[np.int32]:
    """(cells, CHANNELS) columns of `vectors` whose mean in a cell is the most deviations above that of all, else -1."""
    mean, spread = vectors.mean(0), vectors.std(0) + 1e-12
    means = np.stack([cell.mean for cell in cells]) if cells else np.empty((0, vectors.shape[1]))
    order = np.argsort(-(means - mean) / spread, axis=1, kind="stable")[:, :CHANNELS].astype(np.int32)
    return np.pad(order, ((0, 0), (0, CHANNELS - order.shape[1])), constant_values=-1)


def named_channels(cells: Sequence[Cell], vectors: Floats) -> list[int]:
    """Columns of `vectors` that the cells of the levels with at most MANY of them name, in order."""
    counts = Counter(cell.level for cell in cells)
    told = [cell for cell in cells if counts[cell.level] <= MANY]
    return sorted({int(column) for column in strong_channels(told, vectors).flat if column >= 0})


def draw_superstimuli(run: Stages, channels: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
    """Channel -> the picture (128, 128, 3) that excites it the most, as `atlas render` draws it in as many steps."""
    wanted = run.settings
    units = [Unit(wanted.layer, channel) for channel in channels]
    trunk = Trunk(run.model, [wanted.layer])
    block = 2 * chunk_for((_SIDE, _SIDE), trunk.device)
    drawn: dict[int, NDArray[np.uint8]] = {}
    for start in range(0, len(units), block):
        numbers = list(range(start, min(start + block, len(units))))

        def report(stage: str, done: int, total: int, before: int = start, now: int = len(numbers)) -> None:
            run.progress("drawing channels", before + now * done // total, len(units))

        def compute(numbers: list[int] = numbers, report=report) -> Arrays:  # type: ignore[no-untyped-def]
            pictures = maximize(
                run.model,
                objective(units, trunk),
                keys=list(map(str, units)),
                pictures=numbers,
                size=_SIDE,
                steps=wanted.steps,
                seed=wanted.seed,
                trunk=trunk,
                progress=report,
            )
            return {"images": as_rgb(pictures.images)}

        images = run.keep(f"channels-{start:06d}", compute)["images"]
        drawn.update(zip((channels[number] for number in numbers), images, strict=True))
    return drawn
