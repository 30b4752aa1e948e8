"""How much noise a layer's features survive: no picture is drawn through more."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..network.trunk import Trunk
from ..network.units import Place
from ..seeds import generator_for
from . import color
from .objectives import look

# Images in a batch, and batches at most; how strong the noise may be at least; each strength to the next one.
_BATCH, _BATCHES, _LEAST, _STEP = 16, 8, 0.05, 2**-0.5
# What clean and noisy features have to have in common; by how much more or less of a batch ends the looking: of more
# batches, which err less, less will do.
_IN_COMMON, _CLEARLY = 0.1, 0.1
# Places a side of a map, whose features are the means over them.
_PLACES = 7


def noise_limit(trunk: Trunk, layer: str, size: tuple[int, int], *, most: float, at: Place = None) -> float:
    """How strong the noise of views may be, up to `most`, so that a layer still tells images apart.

    Views have strengths of their own, uniform from 0 to the limit. At seven tenths of it, clean and noisy features have
    a correlation of a tenth or more. A network that noise blinds sees no difference between a picture and grey, and
    what is drawn through such noise is fog.

    Shown are random images with the spectrum of photographs, until it is clear whether the features go together: over
    all images and features, each feature less its mean over the images. trunk: reads the layer. size: (height, width)
    of the images. at: where in the layer's map.
    """

    @cache
    def clean(batch: int) -> Tensor:
        return _features(trunk, layer, _images(trunk, size, batch), at)

    def bears(strength: float) -> bool:
        noisy = list[Tensor]()
        found = 0.0
        for batch in range(_BATCHES):
            noise = torch.randn((_BATCH, trunk.preprocess.channels, *size), generator=_drawn("noise", batch))
            shown = _images(trunk, size, batch) + strength * noise.to(trunk.device)
            noisy.append(_features(trunk, layer, shown, at))
            found = correlation(torch.cat([clean(number) for number in range(batch + 1)]), torch.cat(noisy))
            if batch and abs(found - _IN_COMMON) > _CLEARLY / (batch + 1) ** 0.5:
                break
        return found >= _IN_COMMON

    limit = most
    if not (clean(0) - clean(0)[:1]).any():  # of what no such image moves, nothing is known
        return limit
    while limit > _LEAST and not bears(limit * _STEP):
        limit *= _STEP
    return limit


def correlation(one: Tensor, other: Tensor) -> float:
    """The correlation of features (images, features), each less its mean over the images; 0 where one never changes."""
    one, other = one - one.mean(0), other - other.mean(0)
    return float((one * other).sum() / (one.norm() * other.norm()).clamp(min=1e-12))


def pink(count: int, channels: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Random images (count, channels, h, w) in [0, 1] with the colours and the spectrum, as 1 / f, of photographs.

    Ruderman 1994, "The statistics of natural images".
    """
    rows, columns = torch.fft.fftfreq(size[0])[:, None], torch.fft.rfftfreq(size[1])[None]
    frequency = (rows.square() + columns.square()).sqrt().clamp(min=1 / max(size))
    drawn = torch.view_as_complex(torch.randn(count, channels, *frequency.shape, 2, generator=generator))
    waves = color.to_rgb(torch.fft.irfft2(drawn / frequency, s=size))
    spread = waves.std((1, 2, 3), keepdim=True).clamp(min=1e-12)
    return (1.2 * waves / spread).sigmoid()  # as far from grey as photographs are


def _images(trunk: Trunk, size: tuple[int, int], batch: int) -> Tensor:
    return pink(_BATCH, trunk.preprocess.channels, size, _drawn("pink images", batch)).to(trunk.device)


def _drawn(what: str, batch: int) -> torch.Generator:
    return generator_for(0, f"{what} that show what a layer bears", batch)


def _features(trunk: Trunk, layer: str, images: Tensor, at: Place) -> Tensor:
    """(images, features) of a layer."""
    with torch.inference_mode():
        maps = trunk(images)[layer].float().nan_to_num(0, 0, 0)
    if at is not None:
        return look(maps, at)
    rows, columns = (min(_PLACES, side) for side in maps.shape[2:])
    return F.adaptive_avg_pool2d(maps, (rows, columns)).flatten(1)
