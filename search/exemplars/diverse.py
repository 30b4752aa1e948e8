"""Exemplars that are not all the same picture: near-duplicates collapsed, one per class where asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .exemplars import Exemplars
from .layer_exemplars import Exemplar

# Two images are one picture where the correlation of their thumbnails' colours is at least this.
ALIKE = 0.97
_THUMBNAIL = 16


@dataclass(frozen=True)
class DiverseExemplars:
    """`exemplars`: the best that differ; `dropped`: how many better ones were passed over.

    `cost`: the mean value given up for it, as a share of the mean of the plain strongest (0: nothing).
    """

    exemplars: tuple[Exemplar, ...]
    dropped: int
    cost: float


def chosen(found: Exemplars, layer: str, channel: int) -> DiverseExemplars:
    """The unit's exemplars as they were asked for: so many, of which no two are alike where that was wished."""
    unit = (layer, channel)
    if found.diverse == "no":
        return DiverseExemplars(tuple(found.of(*unit)[: found.k]), 0, 0.0)
    if unit not in found.choices:
        found.choices[unit] = diverse(found, *unit, found.k, per_class=found.diverse == "classes")
    return found.choices[unit]


def diverse(
    found: Exemplars, layer: str, channel: int, count: int, *, per_class: bool = False, alike: float = ALIKE
) -> DiverseExemplars:
    """The best `count` of the unit's exemplars of which no two are nearly the same picture.

    per_class: nor of the same class, where it is known. They are chosen among the k that were found, so find more (k
    several times `count`); fewer than `count` come out where those do not suffice.
    """
    candidates = found.of(layer, channel)
    chosen: list[Exemplar] = []
    thumbnails: list[Tensor] = []
    looked_at = 0
    for entry in candidates:
        if len(chosen) == count:
            break
        looked_at += 1
        if per_class and entry.label >= 0 and any(entry.label == other.label for other in chosen):
            continue
        thumbnail = _thumbnail(found, entry.image)
        if any(float(thumbnail @ other) >= alike for other in thumbnails):
            continue
        chosen.append(entry)
        thumbnails.append(thumbnail)
    plain = [entry.value for entry in candidates[: len(chosen)]]
    given_up = np.mean(plain) - np.mean([entry.value for entry in chosen]) if chosen else 0.0
    scale = abs(float(np.mean(plain))) if plain else 0.0
    return DiverseExemplars(tuple(chosen), looked_at - len(chosen), float(given_up) / scale if scale else 0.0)


def _thumbnail(found: Exemplars, number: int) -> Tensor:
    """The image's colours at 16 x 16, less their mean, of length 1: a product of two is their correlation."""
    if number not in found.thumbnails:
        found.thumbnails[number] = _colors(found.images.open(number))
    return found.thumbnails[number]


def _colors(image: Image.Image) -> Tensor:
    small = image.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX, reducing_gap=2.0)
    values = torch.from_numpy(np.array(small, dtype=np.float32)).flatten()
    values = values - values.mean()
    length = values.norm()
    return values / length if length > 0 else values
