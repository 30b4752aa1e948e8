"""The channels that stand out in an atlas's cells, and their superstimuli."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featviz.batch_size import chunk_for
from featviz.engine import Place, Report, Work, blocks, kept_map, shares
from featviz.keep import Arrays
from featviz.maximize import maximize
from featviz.models import Model
from featviz.trunk import Trunk
from featviz.units import Unit, objective

from .grid import Cell
from .icons import as_rgb
from .project import Floats
from .settings import Settings
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
    units = tuple(Unit(wanted.layer, channel) for channel in channels)
    jobs = blocks("channels", len(units), 2 * chunk_for((_SIDE, _SIDE), run.model.device))
    report = shares(run.progress, "drawing channels", [len(block) for block in jobs.values()])
    drawn = kept_map(
        run.engine, run.keep, _ChannelDrawing(run.model, units, wanted), jobs, report
    )  # fmt: skip
    pictures = [picture for _, arrays in drawn for picture in arrays["images"]]
    return dict(zip(channels, pictures, strict=True))


@dataclass(frozen=True)
class _ChannelDrawing:
    """Draws blocks of a layer's channels, for a worker anywhere."""

    model: Model
    units: tuple[Unit, ...]
    settings: Settings

    def __call__(self, place: Place) -> Work:
        model, wanted = self.model if place.device is None else self.model.to(place.device), self.settings
        trunk = Trunk(model, [wanted.layer], precision=wanted.precision, compiled=wanted.compiled)
        wish = objective(self.units, trunk)

        def work(jobs: Sequence[Sequence[int]], report: Report) -> Iterator[Arrays]:
            for number, block in enumerate(jobs):
                pictures = maximize(
                    model,
                    wish,
                    keys=list(map(str, self.units)),
                    pictures=block,
                    size=_SIDE,
                    steps=wanted.steps,
                    seed=wanted.seed,
                    trunk=trunk,
                    progress=lambda stage, done, total, number=number: report(number, done / total),
                )
                yield {"images": as_rgb(pictures.images)}

        return work
