"""Is the crop the reason? A unit's activation on the crop alone, and on the image without it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from featviz.trunk import Trunk

from .decode import central_box, cut
from .exemplars import Exemplars

GREY = 0.5


@dataclass(frozen=True)
class Sufficiency:
    """Shares of an exemplar's activation: `alone`, with all but its effective box grey; `without`, with the box grey.

    Both None where the activation is not above 0. A crop that is the reason has `alone` near 1 and `without` near 0.
    """

    alone: float | None
    without: float | None


def crop_sufficiency(found: Exemplars, layer: str, channel: int, *, trunk: Trunk | None = None) -> list[Sufficiency]:
    """How much of each strongest image's activation its crop keeps by itself, and how much the rest keeps without it.

    Measured at the position of the activation for the maximum over the map, over the whole map for its mean.
    """
    trunk = trunk or Trunk(found.model, [layer])
    entries = found.of(layer, channel)
    fields, extent = found.layers[layer].fields, found.layers[layer].extent
    results = []
    for entry in entries:
        image = found.images.open(entry.image)
        how = found.model.preprocess
        view = cut(image, central_box(image.size, how), how).float() / 255
        inside = _mask(fields.effective_box(entry.row, entry.column, extent), how.size)
        alone, without = view * inside + GREY * (1 - inside), view * (1 - inside) + GREY * inside
        with torch.inference_mode():
            maps = trunk(torch.stack([view, alone, without]).to(trunk.device))[layer][:, channel] * found.sign
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
