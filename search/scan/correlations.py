"""Which units of a layer do the same, or much the same, over a data set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# Units whose correlations with all others are worked out at once.
_ROWS = 1024


@dataclass(frozen=True, eq=False)
class ChannelCorrelations:
    """Pearson correlations of pairs of units, from their `values` (images, units).

    A unit that is not finite on some image is left out: it correlates with none, nor does one that never varies.
    """

    values: Tensor

    @cached_property
    def normal(self) -> Tensor:
        """(images, units) values less their mean, of length 1: a product of two columns is their correlation."""
        seen = self.values.double()
        broken = ~seen.isfinite().all(0)
        seen = seen.masked_fill(broken, 0)
        centred = seen - seen.mean(0) if len(seen) else seen
        length = centred.norm(dim=0)
        # What rounding leaves of a constant unit's deviation is nothing beside its values.
        varies = length > 1e-6 * (seen.norm(dim=0) + 1e-9)
        return (centred * torch.where(varies, 1 / length.clamp(min=1e-300), 0)).float()

    def matrix(self) -> Tensor:
        """(units, units) in [-1, 1]."""
        return self._rows(0, self.normal.shape[1])

    def similar(self, channel: int, count: int = 5) -> list[tuple[int, float]]:
        """The other units whose values go most with the unit's, each with its correlation, the highest first."""
        row = self._rows(channel, channel + 1)[0].clone()
        row[channel] = -torch.inf
        order = row.argsort(descending=True, stable=True)[: min(count, len(row) - 1)]
        return [(int(other), float(row[other])) for other in order]

    def duplicates(self, threshold: float = 0.99) -> list[tuple[int, int, float]]:
        """Pairs of units (first < second) that correlate at least so much, the most alike first."""
        pairs = []
        for start in range(0, self.normal.shape[1], _ROWS):
            rows = self._rows(start, start + _ROWS).triu(start + 1)
            pairs += [(start + int(a), int(b), float(rows[a, b])) for a, b in (rows >= threshold).nonzero().tolist()]
        return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))

    def _rows(self, first: int, stop: int) -> Tensor:
        return (self.normal[:, first:stop].T @ self.normal).clamp(-1, 1)
