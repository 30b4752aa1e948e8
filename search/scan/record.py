"""All that one pass writes down of a layer's units: strongest and weakest images, distributions, a sample."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from featviz.draw.objectives import look
from featviz.network.units import Place

from .distribution import ChannelStatistics
from .matrix import MatrixFile
from .readout import Readout
from .sampled import SampledValues, scattered
from .scan import Batch
from .topk import PerClassTopK, RunningTopK

Reduce = Literal["max", "mean"]
# Positions of each map whose values count for the distribution over positions: all of them would cost as much as the
# network's last layers.
_POSITIONS = 4


class _Part(Protocol):
    def state(self) -> dict[str, Tensor]: ...

    def load(self, state: Mapping[str, Tensor]) -> None: ...


class Record:
    """Consumer: what each unit of a readout does on every image's central view, by its map's maximum or mean.

    The position is that of the map's maximum, as row * columns + column. place: look there in the map alone, at a
    neuron; sign: -1 ranks what excites the units' opposites; per_class: also each class's strongest so many images;
    matrix: where every value goes, too.
    """

    def __init__(
        self,
        readout: Readout | str,
        k: int,
        reduce: Reduce = "max",
        *,
        place: Place = None,
        sign: Literal[1, -1] = 1,
        per_class: int = 0,
        matrix: MatrixFile | None = None,
    ) -> None:
        self.readout = Readout(readout) if isinstance(readout, str) else readout
        self.reduce, self.place, self.sign, self.matrix = reduce, place, sign, matrix
        self.top, self.bottom = RunningTopK(k), RunningTopK(k, largest=False)
        self.statistics, self.positions = ChannelStatistics(), ChannelStatistics()
        self.sample = SampledValues()
        self.classes = PerClassTopK(per_class) if per_class else None

    def update(self, batch: Batch) -> None:
        central = batch.view == 0
        maps, index, labels = batch.activations[self.readout.layer], batch.index, batch.label
        if not bool(central.all()):
            maps, index, labels = maps[central.to(maps.device)], index[central], labels[central]
        if not len(index):
            return
        maps = self.readout.maps(maps)
        values = values_of(maps, self.reduce, self.place, self.sign)
        position = partial(_position, maps, self.place, self.sign)
        self.top.update(values, index, position)
        self.bottom.update(values, index, position)
        self.statistics.add(values)
        self.positions.add(_some_positions(maps, index) * self.sign)
        self.sample.add(values, index)
        if self.classes is not None:
            self.classes.update(values, index, labels, position)
        if self.matrix is not None:
            self.matrix.write(values, positions_of(maps, self.place, self.sign), index)

    def merge(self, other: Record) -> None:
        self.top.merge(other.top)
        self.bottom.merge(other.bottom)
        self.statistics.merge(other.statistics)
        self.positions.merge(other.positions)
        self.sample.merge(other.sample)
        if self.classes is not None and other.classes is not None:
            self.classes.merge(other.classes)

    def state(self) -> dict[str, Tensor]:
        if self.matrix is not None:
            self.matrix.flush()
        return {f"{name} {key}": value for name, part in self._parts().items() for key, value in part.state().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        for name, part in self._parts().items():
            own = {key: value for key, value in state.items() if key.startswith(f"{name} ")}
            part.load({key.removeprefix(f"{name} "): value for key, value in own.items()})

    def _parts(self) -> dict[str, _Part]:
        parts: dict[str, _Part] = {
            "top": self.top,
            "bottom": self.bottom,
            "statistics": self.statistics,
            "positions": self.positions,
            "sample": self.sample,
        }
        return parts | ({} if self.classes is None else {"classes": self.classes})


def values_of(maps: Tensor, reduce: Reduce, place: Place, sign: Literal[1, -1]) -> Tensor:
    """The units' values (n, units) of their maps (n, units, h, w), looked at as a `Record` does."""
    if place is not None:
        return look(maps, place) * sign
    if reduce == "mean":
        return maps.mean((2, 3)) * sign
    return maps.amax((2, 3)) if sign > 0 else -maps.amin((2, 3))


def _position(maps: Tensor, place: Place, sign: Literal[1, -1], rows: Tensor, units: Tensor) -> Tensor:
    """Where in their maps the values of (row of the batch, unit) lie, (values,)."""
    if place is None:
        return (maps[rows, units] * sign).flatten(1).argmax(1)
    row, column = (maps.shape[2] // 2, maps.shape[3] // 2) if place == "center" else place
    return torch.full_like(rows, row * maps.shape[3] + column)


def _some_positions(maps: Tensor, index: Tensor) -> Tensor:
    """(n * positions, units) the values at a few positions of each map, which depend on the image's number alone."""
    area = maps.shape[2] * maps.shape[3]
    count = min(_POSITIONS, area)
    draws = scattered((index.cpu().numpy()[:, None] * _POSITIONS + np.arange(count)).astype(np.int64))
    chosen = torch.from_numpy((draws % np.uint64(area)).astype(np.int64)).to(maps.device)
    values = maps.flatten(2).gather(2, chosen[:, None].expand(-1, maps.shape[1], -1))
    return values.transpose(1, 2).flatten(0, 1)


def positions_of(maps: Tensor, place: Place, sign: Literal[1, -1] = 1) -> Tensor:
    """Where in its map each value lies, (n, units)."""
    rows, units = (axis.flatten() for axis in torch.meshgrid(*map(torch.arange, maps.shape[:2]), indexing="ij"))
    return _position(maps, place, sign, rows.to(maps.device), units.to(maps.device)).reshape(maps.shape[:2])
