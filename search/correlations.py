"""Which channels of a layer do the same, nothing, or much the same, over a data set."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class ChannelCorrelations:
    """Pearson correlations of every pair of channels over the images, from sums of products: memory channels squared.

    A channel that is not finite on some image is left out: it correlates with none. Merging is associative and
    order-independent.
    """

    def __init__(self) -> None:
        self._count = torch.zeros((), dtype=torch.float64)
        self._sum = torch.zeros(0, dtype=torch.float64)
        self._products = torch.zeros(0, 0, dtype=torch.float64)
        self._broken = torch.zeros(0, dtype=torch.bool)

    def add(self, values: Tensor) -> None:
        """Take in values (n, channels)."""
        seen = values.detach().double().cpu()
        finite = seen.isfinite()
        seen = seen.where(finite, 0)
        self._take_in(torch.tensor(len(seen), dtype=torch.float64), seen.sum(0), seen.T @ seen, ~finite.all(0))

    def merge(self, other: ChannelCorrelations) -> None:
        """Take in what another has seen."""
        self._take_in(other._count, other._sum, other._products, other._broken)

    def state(self) -> dict[str, Tensor]:
        return {"count": self._count, "sum": self._sum, "products": self._products, "broken": self._broken}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._count, self._sum, self._products, self._broken = (
            state[key] for key in ("count", "sum", "products", "broken")
        )

    def matrix(self) -> Tensor:
        """(channels, channels) in [-1, 1]; 0 for a channel that never varies or is left out, its diagonal too."""
        mean = self._sum / self._count.clamp(min=1)
        covariance = self._products / self._count.clamp(min=1) - mean[:, None] * mean[None]
        variance = covariance.diagonal().clamp(min=0)
        # What rounding leaves of a constant channel's variance is nothing beside the square of its mean.
        varies = variance > 1e-12 * (mean.square() + 1e-12)
        scale = torch.where(varies & ~self._broken, variance.rsqrt(), 0)
        return (covariance * scale[:, None] * scale[None]).clamp(-1, 1).float()

    def similar(self, channel: int, count: int = 5) -> list[tuple[int, float]]:
        """The other channels whose values go most with the channel's, each with its correlation, the highest first."""
        row = self.matrix()[channel].clone()
        row[channel] = -torch.inf
        order = row.argsort(descending=True, stable=True)[: min(count, len(row) - 1)]
        return [(int(other), float(row[other])) for other in order]

    def dead(self) -> list[int]:
        """Channels that never vary."""
        still = (self.matrix().diagonal() == 0) & ~self._broken
        return [int(channel) for channel in still.nonzero()[:, 0]]

    def duplicates(self, threshold: float = 0.99) -> list[tuple[int, int, float]]:
        """Pairs of channels (first < second) that correlate at least so much, the most alike first."""
        upper = self.matrix().triu(1)
        pairs = [(int(a), int(b), float(upper[a, b])) for a, b in (upper >= threshold).nonzero().tolist()]
        return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))

    def _take_in(self, count: Tensor, total: Tensor, products: Tensor, broken: Tensor) -> None:
        if not len(self._sum):
            self._count, self._sum, self._products, self._broken = count, total, products, broken
        elif len(total):
            self._count, self._sum = self._count + count, self._sum + total
            self._products, self._broken = self._products + products, self._broken | broken
