"""Where a layer's output changes when a part of the image does: what tells whether a reading of it is right.

A place may change with everything and still show one half: deep in a network of wide convolutions the places in the
middle change most, whatever changes. So each place is asked which half it follows more: how much it changes with the
one, as a share of how much it changes with either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .layout import Layout

# How often a place of a half follows it more than a place of the other half does: half of the time by chance.
FOLLOWS, FOLLOWS_NOT = 0.75, 0.65
# The quarter of places that follows a half most has so many times the share of the one that follows it least.
_LOCAL = 3.0


@dataclass(frozen=True)
class Halves:
    """A layer's output for two images, and for the first with its upper, or its left, half taken from the other."""

    plain: Any
    other: Any
    upper: Any
    left: Any

    def followed(self, layout: Layout) -> float | None:
        """How well the places said to show a half follow what changes in it, 0 to 1; None where there is one place."""
        return _least(_ranked(self._share(layout, self.upper)), _ranked(self._share(layout, self.left).T))

    def turned(self, layout: Layout) -> float | None:
        """The same for places whose rows stand where the image's columns do."""
        return _least(_ranked(self._share(layout, self.upper).T), _ranked(self._share(layout, self.left)))

    def local(self, layout: Layout) -> bool:
        """Whether some places follow one half of the image much more than others do, wherever they lie.

        Of what attention with random weights returns, every place follows both alike.
        """
        for mixed in (self.upper, self.left):
            shares = self._share(layout, mixed).flatten().sort().values
            quarter = max(1, len(shares) // 4)
            if shares[-quarter:].mean() < _LOCAL * shares[:quarter].mean():
                return False
        return True

    def _share(self, layout: Layout, mixed: Any) -> Tensor:
        """(rows, columns) how much each place changes with the half that is the other image's, a share of all changes.

        A half where nothing changes.
        """
        with_half, with_rest = _changed(layout, self.plain, mixed), _changed(layout, self.other, mixed)
        both = with_half + with_rest
        return torch.where(both > 0, with_half / both.clamp_min(torch.finfo(both.dtype).tiny), 0.5)


def _changed(layout: Layout, plain: Any, changed: Any) -> Tensor:
    """(rows, columns) how much each place of the one image changes."""
    difference = layout.maps(changed)[:1].float() - layout.maps(plain)[:1].float()
    return torch.nan_to_num(difference).abs().mean((0, 1)).cpu()


def _least(*scores: float | None) -> float | None:
    known = [score for score in scores if score is not None]
    return min(known) if known else None


def _ranked(shares: Tensor) -> float | None:
    """How often an upper place follows the half more than a lower one does; AUROC; None for one row, or no change."""
    half = shares.shape[0] // 2
    if not half or bool((shares == 0.5).all()):
        return None
    above, below = shares[:half].flatten().contiguous(), shares[-half:].flatten().sort().values
    lower = torch.searchsorted(below, above).float()
    same = torch.searchsorted(below, above, right=True).float() - lower
    return float((lower + same / 2).mean() / len(below))
