"""The values of all units on a fixed number of images, drawn evenly from however many there are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Up to so many images the sample is all of them.
SAMPLE = 2048


class SampledValues:
    """Every unit's value on `count` images, or on all where there are fewer: 4 bytes per unit and image of the sample.

    Which images are drawn depends on their numbers alone, not on their order or their shards; merging is associative
    and order-independent.
    """

    def __init__(self, count: int = SAMPLE) -> None:
        self.count = count
        self._index: list[Tensor] = []
        self._values: list[Tensor] = []
        self._held, self._last = 0, np.iinfo(np.uint64).max

    def add(self, values: Tensor, index: Tensor) -> None:
        """Take in the values (n, units) of n images whose numbers are `index` (n,)."""
        drawn = torch.from_numpy(scattered(index.cpu().numpy()) <= self._last)
        if not drawn.any():
            return
        self._index.append(index.cpu()[drawn])
        self._values.append(values.detach().float().cpu()[drawn])
        self._held += int(drawn.sum())
        if self._held >= 2 * self.count:
            self._compact()

    def merge(self, other: SampledValues) -> None:
        """Take in what another has drawn."""
        self._index += other._index
        self._values += other._values
        self._held += other._held
        self._compact()

    def state(self) -> dict[str, Tensor]:
        """`index` (n,) in rising order and `values` (n, units) float32."""
        self._compact()
        if not self._index:
            return {"index": torch.zeros(0, dtype=torch.int64), "values": torch.zeros(0, 0)}
        return {"index": self._index[0], "values": self._values[0]}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._index, self._values = [state["index"]], [state["values"]]
        self._held = len(state["index"])
        if not self._held:
            self._index, self._values = [], []
        self._compact()

    def _compact(self) -> None:
        if not self._index:
            return
        index, values = torch.cat(self._index), torch.cat(self._values)
        order = np.argsort(scattered(index.numpy()), kind="stable")[: self.count]
        drawn = torch.from_numpy(np.sort(index.numpy()[order]))
        place = torch.argsort(index, stable=True)
        rows = place[torch.searchsorted(index[place], drawn)]
        self._index, self._values, self._held = [drawn], [values[rows]], len(drawn)
        if self._held == self.count:
            self._last = scattered(drawn.numpy()).max()


def scattered(numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Each number sent to one of 2^64 places, no two to the same, without a pattern.

    The finaliser of SplitMix64, Steele et al. 2014, "Fast splittable pseudorandom number generators".
    """
    with np.errstate(over="ignore"):
        bits = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
