"""Which bands of an image an activation hangs on: each is taken away by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..network.bands import band_name
from .target import BATCH, Target


@dataclass(frozen=True)
class BandEvidence:
    """One band: by how much the activation falls without it (`drop`), and its `share` of all that bands add, in [0, 1].

    Bands that speak against the unit, whose drop is negative, have no share.
    """

    number: int
    name: str
    drop: float
    share: float


def band_evidence(target: Target, image: Tensor) -> tuple[BandEvidence, ...]:
    """What each band of an image (bands, h, w) in [0, 1] does for a unit, in the bands' order.

    A band is taken away by putting the network's own mean in its place, which is nothing once it is normalised. One
    forward pass for each band.
    """
    how = target.model.preprocess
    views = image.repeat(how.channels, 1, 1, 1)
    for number, mean in enumerate(how.mean):
        views[number, number] = mean
    before = float(target.values(image[None]))
    after = torch.cat([target.values(part).cpu() for part in torch.split(views, BATCH)])
    drops = (before - after.double()).tolist()
    total = sum(max(drop, 0.0) for drop in drops) or 1.0
    return tuple(
        BandEvidence(number, band_name(how, number), drop, max(drop, 0.0) / total) for number, drop in enumerate(drops)
    )


def told_evidence(found: tuple[BandEvidence, ...]) -> str:
    """In which bands the evidence lies, in words."""
    best = sorted((band for band in found if band.share > 0), key=lambda band: -band.share)[:3]
    if not best:
        return "No band adds to the activation by itself: without any one of them it is as high."
    some = ", ".join(f"{band.share:.0%} in {band.name}" for band in best)
    return f"Of what the bands add to the activation lies {some} (each put at the network's mean by itself)."
