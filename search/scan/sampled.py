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
        # One block, filled from the front: an array for every batch would leave the heap in splinters.
        self._index = np.empty(2 * count, np.int64)
        self._values = np.empty((2 * count, 0), np.float32)
        self._held, self._last = 0, np.iinfo(np.uint64).max

    def add(self, values: Tensor, index: Tensor) -> None:
        """Take in the values (n, units) of n images whose numbers are `index` (n,)."""
        numbers = index.cpu().numpy()
        drawn = scattered(numbers) <= self._last
        numbers, rows = numbers[drawn], values.detach().float().cpu().numpy()[drawn]
        for start in range(0, len(numbers), self.count):
            self._append(rows[start : start + self.count], numbers[start : start + self.count])

    def merge(self, other: SampledValues) -> None:
        """Take in what another has drawn."""
        state = other.state()
        self.add(state["values"], state["index"])

    def state(self) -> dict[str, Tensor]:
        """`index` (n,) in rising order and `values` (n, units) float32."""
        self._compact()
        held = (self._index[: self._held].copy(), self._values[: self._held].copy())
        return dict(zip(("index", "values"), map(torch.from_numpy, held), strict=True))

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._held, self._last = 0, np.iinfo(np.uint64).max
        self.add(state["values"], state["index"])

    def _append(self, values: NDArray[np.float32], index: NDArray[np.int64]) -> None:
        if not self._held:
            self._values = np.empty((2 * self.count, values.shape[1]), np.float32)
        if self._held + len(index) > 2 * self.count:
            self._compact()
        places = slice(self._held, self._held + len(index))
        self._index[places], self._values[places] = index, values
        self._held += len(index)

    def _compact(self) -> None:
        """Leave the `count` images with the smallest scattered numbers, by rising number."""
        index = self._index[: self._held]
        places = scattered(index)
        kept = np.argsort(places, kind="stable")[: self.count]
        kept = kept[index[kept].argsort()]
        self._index[: len(kept)], self._values[: len(kept)] = index[kept], self._values[kept]
        self._held = len(kept)
        if self._held == self.count:
            self._last = places[kept].max()


def scattered(numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Each number sent to one of 2^64 places, no two to the same, without a pattern.

    The finaliser of SplitMix64, Steele et al. 2014, "Fast splittable pseudorandom number generators".
    """
    with np.errstate(over="ignore"):
        bits = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
