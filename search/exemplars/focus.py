"""One unit on a few images: its map, what of the image its mask covers, images that nearly excite it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..images.decode import central_view
from ..scan.record import positions_of, values_of
from .exemplars import Exemplars
from .layer_exemplars import Exemplar

# A position counts as active where its value exceeds this share of the values at all positions of all images. Hernandez
# et al. 2022, "Natural Language Descriptions of Deep Visual Features".
ACTIVE = 0.99
# Images that go through the network at once.
_BATCH = 16


def views(found: Exemplars, numbers: Sequence[int]) -> Tensor:
    """What the network saw of images, (n, channels, h, w) in [0, 1]."""
    how = found.model.preprocess
    return torch.stack([central_view(found.images.picture(number, how), how) for number in numbers])


def unit_maps(found: Exemplars, layer: str, channel: int, images: Tensor) -> Tensor:
    """The unit's maps (n, rows, columns) on images as `views` gives them; its opposite's where that was ranked."""
    parts = [maps[:, channel] for maps in _all_maps(found, layer, images)]
    return torch.cat(parts).cpu() * found.sign


def activation_masks(found: Exemplars, layer: str, channel: int, images: Tensor, *, share: float = ACTIVE) -> Tensor:
    """Where the unit is active, (n, h, w) of bool in pixels of the network's input.

    Active: its map, interpolated to the input, exceeds the value that `share` of all positions of all images stay
    below. Everywhere for a unit without a map, as a class. Bau et al. 2017, "Network Dissection".
    """
    if found.layer(layer).grid == (1, 1):
        return torch.ones(len(images), *found.model.preprocess.size, dtype=torch.bool)
    maps = unit_maps(found, layer, channel, images)[:, None]
    smooth = F.interpolate(maps, found.model.preprocess.size, mode="bilinear", align_corners=False)
    return smooth[:, 0] > found.layer(layer).positions.quantile(share)[channel]


def near_misses(found: Exemplars, layer: str, channel: int, count: int = 9) -> list[Exemplar]:
    """Images that are to the other units of the layer what the strongest images are, and yet leave the unit cold.

    Of the sampled images on which the unit stays below its median, those whose other units' standard scores point the
    most to the mean of those of the strongest ones. Empty where the readout has fewer than 8 units to tell by.
    """
    known = found.layer(layer, channel)
    strongest = [entry.image for entry in found.of(layer, channel)]
    if len(known) < 8 or not strongest:
        return []
    deviation, mean = known.statistics.deviation, known.statistics.mean
    scale = torch.where(deviation > 0, 1 / deviation.clamp(min=1e-12), 0.0)
    scale[channel] = 0
    target = _scores(_layer_values(found, layer, strongest), mean, scale).mean(0)
    column = known.sample[:, channel]
    median = float(column[column.isfinite()].median())
    others = ~torch.isin(known.sampled, torch.tensor(strongest))
    rows = ((column < median) & others).nonzero()[:, 0]
    if not len(rows):
        return []
    scores = _scores(known.sample[rows], mean, scale)
    alike = F.cosine_similarity(scores, target[None])
    numbers = [int(known.sampled[rows[place]]) for place in alike.argsort(descending=True, stable=True)[:count]]
    return located(found, layer, channel, numbers)


def located(found: Exemplars, layer: str, channel: int, numbers: Sequence[int]) -> list[Exemplar]:
    """Images as exemplars of a unit: its value on each, and where in its map that lies."""
    if not numbers:
        return []
    maps = unit_maps(found, layer, channel, views(found, numbers))
    values = values_of(maps[:, None], found.reduce, found.place, 1)[:, 0]
    places = positions_of(maps[:, None], found.place)[:, 0]
    return [
        found.exemplar(layer, *(entry.item() for entry in row))
        for row in zip(values, torch.tensor(numbers), places, strict=True)
    ]


def _layer_values(found: Exemplars, layer: str, numbers: Sequence[int]) -> Tensor:
    """The values of all units of a readout on images, (n, units), as they were recorded."""
    every = _all_maps(found, layer, views(found, numbers))
    return torch.cat([values_of(maps, found.reduce, found.place, found.sign) for maps in every]).cpu()


def _all_maps(found: Exemplars, layer: str, images: Tensor) -> Iterator[Tensor]:
    """The maps of all units of a readout, (up to 16, units, rows, columns) at a time."""
    trunk, readout = found.trunk(layer), found.layer(layer).readout
    for part in torch.split(images, _BATCH):
        with torch.inference_mode():
            yield readout.maps(trunk(part.to(trunk.device))[readout.layer])


def _scores(values: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    return ((values - mean) * scale).nan_to_num(0, 0, 0)
