"""Scan consumers: what units, channels and the images themselves are like over a whole data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featviz.draw.contrast import ColorRange, contrast, saturation
from featviz.draw.objectives import look
from featviz.draw.robust import robust_views
from featviz.draw.spectrum import Spectrum, amplitudes, before_sigmoid, slopes
from featviz.network.trunk import Trunk
from featviz.network.units import Place, Unit

from .scan import Batch


class _PerImage(ABC):
    """Rows kept for each image's central view, in rising order of the images."""

    def __init__(self) -> None:
        self._parts: list[dict[str, Tensor]] = []

    @abstractmethod
    def rows(self, batch: Batch) -> dict[str, Tensor]:
        """What is kept of each view, (n, ...) each."""

    def update(self, batch: Batch) -> None:
        central = batch.view == 0
        kept = {key: rows[central.to(rows.device)].float().cpu() for key, rows in self.rows(batch).items()}
        self._parts.append({"image": batch.index[central].clone(), **kept})

    def merge(self, other: _PerImage) -> None:
        self._parts += other._parts

    def state(self) -> dict[str, Tensor]:
        """`image` (n,) in rising order, and what the consumer keeps, (n, ...) each."""
        if not self._parts:
            return {"image": torch.empty(0, dtype=torch.long)}
        joined = {key: torch.cat([part[key] for part in self._parts]) for key in self._parts[0]}
        order = torch.argsort(joined["image"], stable=True)
        return {key: value[order] for key, value in joined.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._parts = [dict(state)] if len(state) > 1 else []


class UnitValues(_PerImage):
    """Keeps each unit's activation on the central view of every image: 4 bytes per unit and image."""

    def __init__(self, units: Sequence[Unit]) -> None:
        super().__init__()
        self.units = list(dict.fromkeys(units))
        self._alike: dict[tuple[str, Place], list[Unit]] = {}
        for unit in self.units:
            self._alike.setdefault((unit.layer, unit.position), []).append(unit)

    def rows(self, batch: Batch) -> dict[str, Tensor]:
        columns: dict[Unit, Tensor] = {}
        for (layer, place), units in self._alike.items():
            seen = look(batch.activations[layer], place)
            columns |= {unit: unit.activation(seen) for unit in units}
        return {"values": torch.stack([columns[unit] for unit in self.units], 1)}

    def by_unit(self) -> dict[Unit, tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Each unit's images and its activation on them, (images,) each, those where it is not finite left out."""
        state = self.state()
        if len(state["image"]) == 0:
            return {unit: (np.empty(0, np.int64), np.empty(0, np.float32)) for unit in self.units}
        images, columns = state["image"].numpy(), state["values"].numpy().T
        finite = [np.isfinite(column) for column in columns]
        return {unit: (images[ok], column[ok]) for unit, column, ok in zip(self.units, columns, finite, strict=True)}


class RobustValues(UnitValues):
    """Keeps each unit's robust activation on the central view of every image: the mean over its `robust_views`.

    trunk: reads the units' layers; the scan itself need not.
    """

    def __init__(self, units: Sequence[Unit], trunk: Trunk) -> None:
        super().__init__(units)
        self.trunk = trunk

    def rows(self, batch: Batch) -> dict[str, Tensor]:
        with torch.inference_mode():
            seen = [replace(batch, activations=self.trunk(view)) for view in robust_views(batch.pixels)]
            values = [super(RobustValues, self).rows(each)["values"] for each in seen]
        return {"values": torch.stack(values).mean(0)}


class PooledMaps(_PerImage):
    """Keeps the spatial mean of each layer's map on the central view of every image, (images, channels)."""

    def rows(self, batch: Batch) -> dict[str, Tensor]:
        return {layer: maps.mean((2, 3)) for layer, maps in batch.activations.items()}


class Colors(_PerImage):
    """Keeps the contrast of each channel and the saturation of every image's central view."""

    def rows(self, batch: Batch) -> dict[str, Tensor]:
        return {"contrast": contrast(batch.pixels), "saturation": saturation(batch.pixels)}

    def range(self) -> ColorRange | None:
        """Between which values nine images in ten lie; None before the first image."""
        state = self.state()
        return ColorRange.of(state["contrast"], state["saturation"]) if len(state["image"]) else None


class ChannelMoments:
    """Mean and deviation of every channel over the images' central views, looked at as `place` says; bounded memory.

    Values that are not finite are left out, of their own channel alone.
    """

    def __init__(self, layer: str, place: Place = None) -> None:
        self.layer, self.place = layer, place
        self._count = self._sum = self._squares = torch.zeros(0, dtype=torch.float64)

    def update(self, batch: Batch) -> None:
        seen = look(batch.activations[self.layer], self.place).cpu().double()[batch.view == 0]
        known = seen.isfinite()
        seen = seen.where(known, 0)
        self._add(known.double().sum(0), seen.sum(0), seen.square().sum(0))

    def merge(self, other: ChannelMoments) -> None:
        self._add(other._count, other._sum, other._squares)

    def state(self) -> dict[str, Tensor]:
        """`count`, `sum` and `squares`, (channels,) each in float64."""
        return {"count": self._count, "sum": self._sum, "squares": self._squares}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._count, self._sum, self._squares = state["count"], state["sum"], state["squares"]

    def moments(self) -> tuple[Tensor, Tensor]:
        """(channels,) means and standard deviations, NaN for a channel that was never finite."""
        mean = self._sum / self._count
        return mean.float(), (self._squares / self._count - mean.square()).clamp(min=0).sqrt().float()

    def _add(self, count: Tensor, total: Tensor, squares: Tensor) -> None:
        if not self._sum.numel():
            self._count, self._sum, self._squares = count, total, squares
        elif total.numel():
            self._count, self._sum, self._squares = self._count + count, self._sum + total, self._squares + squares


class Spectra:
    """The mean spectrum of the images' central views, and the mean exponent of their spectra; bounded memory."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def update(self, batch: Batch) -> None:
        images = batch.pixels[(batch.view == 0).to(batch.pixels.device)]
        if not len(images):
            return
        self._add(
            {
                "count": torch.tensor(len(images), dtype=torch.float64),
                "amplitude": amplitudes(images).cpu().double().sum(0),
                "mean": before_sigmoid(images).mean((2, 3)).cpu().double().sum(0),
                "slope": slopes(images.cpu()).double().sum(),
            }
        )

    def merge(self, other: Spectra) -> None:
        self._add(other._sums)

    def state(self) -> dict[str, Tensor]:
        """Sums in float64 over `count` () images: `amplitude`, `mean` and `slope`; empty before the first image."""
        return dict(self._sums)

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._sums = dict(state)

    def spectrum(self) -> Spectrum:
        """The mean over all images seen."""
        count = self._sums["count"]
        return Spectrum((self._sums["amplitude"] / count).float(), (self._sums["mean"] / count).float())

    def slope(self) -> float:
        """The mean exponent over all images seen."""
        return float(self._sums["slope"] / self._sums["count"])

    def _add(self, sums: Mapping[str, Tensor]) -> None:
        for key, value in sums.items():
            self._sums[key] = self._sums[key] + value if key in self._sums else value
