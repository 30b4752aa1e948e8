"""How each channel's values are distributed over a data set, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

# Bins are equal steps of asinh(value / _UNIT): equal widths of _UNIT * 0.03 near zero, of 3 % of the value far from it.
_BINS, _UNIT, _RANGE = 1536, 1e-3, 24.0


class ChannelStatistics:
    """Moments, extremes, the share above zero and a histogram of every channel.

    Values that are not finite are left out. Merging is associative and order-independent.
    """

    def __init__(self) -> None:
        self._sums = torch.zeros(4, 0, dtype=torch.float64)  # count, sum, sum of squares, count above zero
        self._ends = torch.zeros(2, 0)  # least, greatest
        self._counts = torch.zeros(0, _BINS, dtype=torch.int64)

    def add(self, values: Tensor) -> None:
        """Take in values (n, channels)."""
        values = values.detach().float().cpu()
        finite = values.isfinite()
        kept = torch.where(finite, values, 0.0).double()
        sums = torch.stack([finite.double().sum(0), kept.sum(0), kept.square().sum(0), (kept > 0).double().sum(0)])
        ends = torch.stack(
            [values.masked_fill(~finite, torch.inf).amin(0), values.masked_fill(~finite, -torch.inf).amax(0)]
        )
        counts = torch.zeros(values.shape[1], _BINS, dtype=torch.int64)
        counts.scatter_add_(1, _bin(kept).T, finite.T.long())
        self._take_in(sums, ends, counts)

    def merge(self, other: ChannelStatistics) -> None:
        """Take in what another has seen."""
        self._take_in(other._sums, other._ends, other._counts)

    def state(self) -> dict[str, Tensor]:
        return {"sums": self._sums, "ends": self._ends, "counts": self._counts}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._sums, self._ends, self._counts = state["sums"], state["ends"], state["counts"]

    @property
    def count(self) -> Tensor:
        """(channels,) how many values."""
        return self._sums[0].long()

    @property
    def mean(self) -> Tensor:
        """(channels,) NaN where there was no value."""
        return (self._sums[1] / self._sums[0]).float()

    @property
    def deviation(self) -> Tensor:
        """(channels,) standard deviation."""
        variance = self._sums[2] / self._sums[0] - (self._sums[1] / self._sums[0]).square()
        return variance.clamp(min=0).sqrt().float()

    @property
    def least(self) -> Tensor:
        """(channels,)"""
        return self._ends[0]

    @property
    def greatest(self) -> Tensor:
        """(channels,)"""
        return self._ends[1]

    @property
    def positive(self) -> Tensor:
        """(channels,) share of the values above zero."""
        return (self._sums[3] / self._sums[0]).float()

    @property
    def dead(self) -> Tensor:
        """(channels,) whether it never varied: its values differ by less than rounding does."""
        scale = self.least.abs().maximum(self.greatest.abs())
        return (self.count > 0) & (self.greatest - self.least <= 1e-6 * scale)

    def quantile(self, share: float) -> Tensor:
        """(channels,) the value below which `share` of the values lie, within 3 % of it, or 0.00003 near zero."""
        target = share * self._sums[0]
        cumulated = self._counts.cumsum(1).double()
        place = torch.searchsorted(cumulated, target[:, None].clamp(min=0.5), side="left")[:, 0].clamp(max=_BINS - 1)
        edges = histogram_edges()
        middle = (edges[place] + edges[place + 1]) / 2
        return middle.clamp(min=self.least, max=self.greatest).masked_fill(self.count == 0, torch.nan)

    def table(self, shares: Sequence[float]) -> dict[str, Tensor]:
        """All of it by name, (channels,) each, with the quantiles for so large shares of the values."""
        columns = ("count", "mean", "deviation", "least", "greatest", "positive", "dead")
        return {
            **{name: getattr(self, name) for name in columns},
            **{f"quantile_{share:g}": self.quantile(share) for share in shares},
        }

    def histogram(self) -> tuple[Tensor, Tensor]:
        """(channels, bins) counts, and the (bins + 1,) edges between them."""
        return self._counts, histogram_edges()

    def _take_in(self, sums: Tensor, ends: Tensor, counts: Tensor) -> None:
        if self._sums.shape[1] == 0:
            self._sums, self._ends, self._counts = sums, ends, counts
        elif sums.shape[1]:
            self._sums = self._sums + sums
            self._ends = torch.stack([self._ends[0].minimum(ends[0]), self._ends[1].maximum(ends[1])])
            self._counts = self._counts + counts


def histogram_edges() -> Tensor:
    """(bins + 1,) the values between the histogram's bins; the outermost bins hold what lies beyond them."""
    return torch.sinh(torch.linspace(-_RANGE, _RANGE, _BINS + 1)) * _UNIT


def _bin(values: Tensor) -> Tensor:
    steps = (torch.asinh(values / _UNIT) + _RANGE) / (2 * _RANGE) * _BINS
    return steps.floor().long().clamp(0, _BINS - 1)
