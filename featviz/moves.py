"""Where a layer's output changes when a part of the image does: what tells whether a reading of it is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .layout import Layout

# What the places of a changed half rank above those of the other one: 1 wherever any does, half by chance.
FOLLOWS, FOLLOWS_NOT = 0.75, 0.65
# So many times as much changes in the quarter of places that changes most as in the one that changes least.
_LOCAL = 3.0


@dataclass(frozen=True)
class Halves:
    """A layer's output for one image, and for it with its upper, or its left, half replaced by another image's."""

    plain: Any
    upper: Any
    left: Any

    def followed(self, layout: Layout) -> float | None:
        """How well the places said to show a half follow what changes in it, 0 to 1; None where there is one place."""
        scores = [_ranked(_changed(layout, self.plain, self.upper)), _ranked(_changed(layout, self.plain, self.left).T)]
        known = [score for score in scores if score is not None]
        return min(known) if known else None

    def turned(self, layout: Layout) -> float | None:
        """The same for places whose rows stand where the image's columns do."""
        scores = [_ranked(_changed(layout, self.plain, self.upper).T), _ranked(_changed(layout, self.plain, self.left))]
        known = [score for score in scores if score is not None]
        return min(known) if known else None

    def local(self, layout: Layout) -> bool:
        """Whether a change of half of the image changes some places much more than others, wherever they lie.

        Of what attention with random weights returns, every place changes alike.
        """
        for changed in (self.upper, self.left):
            moved = _changed(layout, self.plain, changed).flatten().sort().values
            quarter = max(1, len(moved) // 4)
            if moved[-quarter:].mean() < _LOCAL * moved[:quarter].mean():
                return False
        return True


def _changed(layout: Layout, plain: Any, changed: Any) -> Tensor:
    """(rows, columns) how much each place of the one image changes."""
    difference = layout.maps(changed)[:1].float() - layout.maps(plain)[:1].float()
    return torch.nan_to_num(difference).abs().mean((0, 1)).cpu()


def _ranked(moved: Tensor) -> float | None:
    """The share of pairs of an upper and a lower place in which the upper changes more; AUROC; None for one row."""
    half = moved.shape[0] // 2
    if not half or not moved.any():
        return None
    above, below = moved[:half].flatten().contiguous(), moved[-half:].flatten().sort().values
    lower = torch.searchsorted(below, above).float()
    same = torch.searchsorted(below, above, right=True).float() - lower
    return float((lower + same / 2).mean() / len(below))
