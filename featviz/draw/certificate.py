"""The certificate: evidence of how well a picture does its job, measured on the picture as it is saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..network.models import Model
from ..network.trunk import Trunk
from ..network.units import Unit
from .contrast import PHOTOGRAPHS, ColorRange, contrast, saturation
from .mis import Queries
from .objectives import look
from .path_similarity import NaturalPath, Step, path_similarity
from .rising import falls
from .robust import robust_views
from .spectrum import slopes

# Behind a GELU and its like a unit is shut where it does not exceed this: its floor lies below 0, and 0 far down.
_SHUT = 1e-3


@dataclass(frozen=True)
class Certificate:
    """Evidence for one picture, measured on the saved 8-bit file by the unaltered network.

    `activation`: the unit's own activation (of a negative unit: its opposite), its mean over noisy, zoomed, turned,
    blurred and compressed views (`robust_views`), None where it is not finite. `clean`: in one pass of the picture as
    it is, which rewards texture that this one network likes and nobody else; `robustness`: activation / clean, where
    both are above 0. `rank`: the unit's place among the layer's channels on its picture, 1 the highest; `selectivity`:
    how many standard deviations it lies above the mean channel (both None for directions); with a data set, channels
    are first standardised by their mean and deviation over it. `saturated`: share of the values below 2 or above 253;
    `contrast`: the mean standard deviation of the channels; `saturation`: the mean spread of a pixel's channels;
    `natural`: whether the contrast of every channel lies between the 5th and the 95th percentile of the data set's
    images, without one of ImageNet's photographs; `slope`: exponent of the picture's spectrum. A picture with an
    opacity is measured over the grey in the middle.

    Against a data set, else None: `dataset_max`: the highest activation, over the very same views, of the few images
    that excite the unit the most; `gain`: activation / dataset_max, where that is above 0. By clean passes:
    `clean_max`, the highest of all images; `z`: (clean - median) / (clean_max - median), which a signed unit needs;
    `percentile`: share of images below it, in percent; `dead`: it does not exceed the data set's median, or, also
    without a data set, its unit comes out of a function such as GELU and is above 0 at no place;
    `slope_error`: distance of the slope from the images' mean; `path_similarity`: layer -> how like the path of the
    images that excite the unit the picture's own path through the network is; `mis`, `mis_accuracy`: mechanistic
    interpretability score, where the unit's opposite is drawn too. None of them alone is quality.

    `label`: the class's name, else empty; `facet`: number of the picture among several of one unit, from 1;
    `rescued`: steps at which no gradient of its own raised it; `noise`: the strongest that it was drawn through, as a
    share of the range, less where noise blinds the network (see `noise_limit`).
    """

    unit: str
    label: str
    file: str
    activation: float | None
    clean: float | None
    robustness: float | None
    rank: int | None
    selectivity: float | None
    saturated: float
    slope: float
    contrast: float = 0.0
    saturation: float = 0.0
    natural: bool | None = None
    dataset_max: float | None = None
    gain: float | None = None
    clean_max: float | None = None
    z: float | None = None
    percentile: float | None = None
    dead: bool | None = None
    slope_error: float | None = None
    path_similarity: dict[str, Step] | None = None
    mis: float | None = None
    mis_accuracy: float | None = None
    facet: int = 1
    rescued: int = 0
    noise: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Reference:
    """What a data set says about one unit.

    `values`: (images,) its activation on each; `images`: (images,) their numbers; `mean`, `deviation`: (channels,) of
    its layer's channels, looked at where the unit is; `slope`: mean exponent of the images' spectra; `robust_max`: the
    highest robust activation of the images that excite it the most; `colors`: what contrast and saturation the images
    have; `path`: the photographs that excite it the most and others on their way through the network; `queries`:
    photographs for the interpretability score.
    """

    values: NDArray[np.float32]
    mean: Tensor | None = None
    deviation: Tensor | None = None
    slope: float | None = None
    path: NaturalPath | None = None
    queries: Queries | None = None
    images: NDArray[np.int64] | None = None
    robust_max: float | None = None
    colors: ColorRange | None = None


def from_json(entry: Mapping[str, Any]) -> Certificate:
    """The certificate that units.json holds."""
    path = entry["path_similarity"]
    steps = None if path is None else {layer: Step(**step) for layer, step in path.items()}
    return Certificate(**{**entry, "path_similarity": steps})


def certify(
    unit: Unit,
    picture: Tensor,
    trunk: Trunk,
    *,
    file: str = "",
    label: str = "",
    seed: int = 0,
    facet: int = 1,
    rescued: int = 0,
    noise: float | None = None,
    reference: Reference | None = None,
) -> Certificate:
    """The certificate of a unit's 8-bit picture (channels, h, w), all but the interpretability score.

    trunk: reads the unit's layer, unfolded, and the path's layers where the reference has a path.
    """
    image = picture[None].to(trunk.device).float() / 255
    with torch.inference_mode():
        maps = trunk(image)
        clean = float(values(unit, maps[unit.layer]))
        robust = [values(unit, trunk(view)[unit.layer]) for view in robust_views(image)]
        activation = float(torch.stack(robust).mean())
    known = math.isfinite(clean) and math.isfinite(activation)
    every = look(maps[unit.layer], unit.position)[0].float().cpu()
    rank, selectivity = _place(unit, every, reference) if known else (None, None)
    against = _against(activation, clean, reference) if known else {"dead": True}
    if _shut(unit, maps[unit.layer], trunk, image):
        against["dead"] = True
    slope = float(slopes(image.cpu()))
    path = None if reference is None else reference.path
    return Certificate(
        unit=str(unit),
        label=label,
        file=file,
        activation=activation if known else None,
        clean=clean if known else None,
        robustness=activation / clean if known and clean > 0 < activation else None,
        rank=rank,
        selectivity=selectivity,
        saturated=float(((picture < 2) | (picture > 253)).float().mean()),
        slope=slope,
        contrast=float(contrast(image.cpu()).mean()),
        saturation=float(saturation(image.cpu())[0]),
        natural=_natural(image[0].cpu(), reference),
        **against,
        slope_error=None if reference is None or reference.slope is None else abs(slope - reference.slope),
        path_similarity=None if path is None else path_similarity(_means(maps, path), path),
        facet=facet,
        rescued=rescued,
        noise=noise,
        seed=seed,
    )


def values(unit: Unit, maps: Tensor) -> Tensor:
    """The unit's activation (n,) in maps (n, c, h, w)."""
    return unit.activation(look(maps, unit.position))


def certificate_trunk(model: Model, layer: str, path: list[str] | None = None, *, resizes: bool = False) -> Trunk:
    """What `certify` measures with: the network as it came, read at the layer and at the path's layers.

    resizes: pictures too small for a vision transformer are measured at their own size, as they were drawn (see
    `Trunk`); enlarged, what they show is of another scale.
    """
    return Trunk(model, list(dict.fromkeys([*(path or []), layer])), fold=False, resizes=resizes)


def _place(unit: Unit, every: Tensor, reference: Reference | None) -> tuple[int | None, float | None]:
    """(rank, z-score) of the unit among its layer's channels, those left out that have no finite value."""
    if unit.vectors:
        return None, None
    if reference is not None and reference.mean is not None and reference.deviation is not None:
        # A channel that never varies in the data set says nothing by how far it strays from its mean.
        floor = reference.deviation.nanmean() * 1e-3 + 1e-12
        every = (every - reference.mean) / reference.deviation.clamp(min=float(floor))
    own = float(every[unit.channel]) * unit.sign
    if not math.isfinite(own):
        return None, None
    every = every[every.isfinite()] * unit.sign
    spread = float(every.std(correction=0))
    z = (own - float(every.mean())) / spread if spread > 0 else None
    return int((every > own).sum()) + 1, z if z is not None and math.isfinite(z) else None


def _natural(image: Tensor, reference: Reference | None) -> bool | None:
    """Whether each channel's contrast is one that images have; None for channels of which nothing is known."""
    colors = PHOTOGRAPHS if reference is None or reference.colors is None else reference.colors
    return colors.holds(image)[0] if len(colors.contrast) == len(image) else None


def _against(activation: float, clean: float, reference: Reference | None) -> dict[str, Any]:
    if reference is None or not len(reference.values):
        return {}
    highest, median = float(reference.values.max()), float(np.median(reference.values))
    robust = reference.robust_max
    return {
        "dataset_max": robust,
        "gain": activation / robust if robust is not None and robust > 0 else None,
        "clean_max": highest,
        "z": (clean - median) / (highest - median) if highest > median else None,
        "percentile": float((reference.values < clean).mean() * 100),
        # Not above the median: of a unit behind a rectifier that never opens, both are 0.
        "dead": not clean > median,
    }


def _shut(unit: Unit, maps: Tensor, trunk: Trunk, image: Tensor) -> bool:
    """Whether the picture leaves a unit that comes out of GELU or its like shut at every place."""
    if unit.vectors or unit.sign < 0:
        return False
    seen = maps if unit.position is None else look(maps, unit.position)[..., None, None]
    return float(seen[:, unit.channel].max()) <= _SHUT and falls(trunk, unit.layer, image)


def _means(maps: Mapping[str, Tensor], path: NaturalPath) -> dict[str, Tensor]:
    return {layer: maps[layer][0].mean((1, 2)).float().cpu() for layer in path.same}
