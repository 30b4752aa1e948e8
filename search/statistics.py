"""What units do over a whole data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featviz.models import Model
from featviz.progress import Progress, silent
from featviz.superstimuli import values
from featviz.units import Unit

from .images import Images
from .scan import Batch, scan


class UnitValues:
    """Consumer that keeps each unit's activation on the central view of every image: 4 bytes per unit and image."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self.units = list(dict.fromkeys(units))
        self._parts: list[dict[str, Tensor]] = []

    def update(self, batch: Batch) -> None:
        central = batch.view == 0
        found = torch.stack([values(unit, batch.activations[unit.layer]) for unit in self.units], 1).float().cpu()
        self._parts.append({"image": batch.index[central].clone(), "values": found[central]})

    def merge(self, other: UnitValues) -> None:
        self._parts += other._parts

    def state(self) -> dict[str, Tensor]:
        """`image` (n,) in rising order, and `values` (n, units)."""
        if not self._parts:
            return {"image": torch.empty(0, dtype=torch.long), "values": torch.empty(0, len(self.units))}
        joined = {key: torch.cat([part[key] for part in self._parts]) for key in ("image", "values")}
        order = torch.argsort(joined["image"], stable=True)
        return {key: value[order] for key, value in joined.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._parts = [dict(state)]

    def by_unit(self) -> dict[Unit, NDArray[np.float32]]:
        """Each unit's finite activations (images,)."""
        columns = self.state()["values"].numpy().T
        return {unit: column[np.isfinite(column)] for unit, column in zip(self.units, columns, strict=True)}


def unit_values(
    model: Model, units: Sequence[Unit], images: Images, *, progress: Progress = silent, **options: Any
) -> dict[Unit, NDArray[np.float32]]:
    """Each unit's activation on every image, from one pass; options: those of `scan`."""
    consumer = UnitValues(units)
    layers = list(dict.fromkeys(unit.layer for unit in consumer.units))
    scan(model, images, layers, [consumer], progress=progress, **options)
    return consumer.by_unit()
