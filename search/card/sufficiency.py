"""Is the crop the reason? A unit's activation on the crop alone, and on the image without it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..exemplars.diverse import chosen
from ..exemplars.exemplars import Exemplars
from ..exemplars.focus import unit_maps, views

GREY = 0.5


@dataclass(frozen=True)
class Sufficiency:
    """Shares of an exemplar's activation: `alone`, with all but its effective box grey; `without`, with the box grey.

    Both None where the activation is not above 0. A crop that is the reason has `alone` near 1 and `without` near 0.
    """

    alone: float | None
    without: float | None


def crop_sufficiency(found: Exemplars, layer: str, channel: int) -> list[Sufficiency]:
    """How much of each strongest image's activation its crop keeps by itself, and how much the rest keeps without it.

    Measured at the position of the activation for the maximum over the map, over the whole map for its mean.
    """
    known = found.layer(layer, channel)
    results = []
    for entry in chosen(found, layer, channel).exemplars:
        view = views(found, [entry.image])[0]
        inside = _mask(known.fields.effective_box(entry.row, entry.column, known.extent), found.model.preprocess.size)
        alone, without = view * inside + GREY * (1 - inside), view * (1 - inside) + GREY * inside
        maps = unit_maps(found, layer, channel, torch.stack([view, alone, without]))
        at_place = found.reduce == "max" or found.place is not None
        values = maps[:, entry.row, entry.column] if at_place else maps.mean((1, 2))
        whole, kept, left = (float(value) for value in values)
        results.append(Sufficiency(kept / whole, left / whole) if whole > 0 else Sufficiency(None, None))
    return results


def _mask(box: tuple[float, float, float, float], size: tuple[int, int]) -> Tensor:
    """(1, h, w): 1 inside the box, 0 outside."""
    left, top, right, bottom = (round(side) for side in box)
    mask = torch.zeros(1, *size)
    mask[:, top:bottom, left:right] = 1
    return mask
