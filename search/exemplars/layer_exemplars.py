"""One image of a unit, and what a pass finds out about all units of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from ..images.decode import Box
from ..scan.correlations import ChannelCorrelations
from ..scan.distribution import ChannelStatistics
from ..scan.readout import Readout
from ..scan.receptive import ReceptiveFields
from ..scan.topk import Ranking


@dataclass(frozen=True)
class Exemplar:
    """One image of a unit: `image`, its number; `name`, `label`; `value`; `row`, `column` in the map.

    `box`: left, top, right, bottom in pixels of the original, all that the position can depend on, None where that is
    the network saw; `effective_box`: where, on average, nine tenths of what moves it lie.
    """

    image: int
    name: str
    label: int
    value: float
    row: int
    column: int
    box: Box | None
    effective_box: Box


@dataclass(frozen=True)
class LayerExemplars:
    """What one pass found out about a readout's units.

    `top`, `bottom`: their strongest and weakest images; `statistics`: of their values; `positions`: of the values at
    single positions of their maps; `sample`, `sampled`: their values (n, units) on n images drawn evenly, and those
    images' numbers; `classes`: each class's strongest images, where asked for; `fields`: receptive fields; `grid`:
    (rows, columns) of the map; `extent`: (height, width) of the effective receptive field, in input pixels.
    """

    readout: Readout
    top: Ranking
    bottom: Ranking
    statistics: ChannelStatistics
    positions: ChannelStatistics
    sample: Tensor
    sampled: Tensor
    classes: Mapping[int, Ranking]
    fields: ReceptiveFields
    grid: tuple[int, int]
    extent: tuple[float, float]

    def __len__(self) -> int:
        """How many units."""
        return len(self.top.values)

    @cached_property
    def correlations(self) -> ChannelCorrelations:
        """Of the units' values over the sample."""
        return ChannelCorrelations(self.sample)

    def at_quantile(self, channel: int, share: float, count: int = 3) -> list[tuple[int, float]]:
        """Images of the sample at which so large a share of the values lie below: (number, value), rising."""
        column = self.sample[:, channel]
        finite = column.isfinite().nonzero()[:, 0]
        order = finite[column[finite].argsort(stable=True)]
        first = round(share * (len(order) - 1)) - (count - 1) // 2
        first = max(0, min(first, len(order) - count))
        return [(int(self.sampled[row]), float(column[row])) for row in order[first : first + count].tolist()]
