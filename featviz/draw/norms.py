"""What BatchNorm remembers of the images that a network was trained on, as a guide for pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..network.models import Model
from ..network.trunk import Trunk
from .objectives import Activations, Objective

# Squared distances count up to this, so that one channel far away does not drown the rest.
_MOST = 25.0


def familiarity(model: Model, layers: Sequence[str]) -> Objective | None:
    """How near a picture's channels lie to what the network met in training: 0, and less the farther they are.

    Of each norm on the way to `layers`, the mean squared distance of its channels' means over the map from those that
    it gives the training images, in the deviations that it gives them. Of the norms with maps of one size, those with
    the fewest channels speak: the others cost more and say the same. None where no norm remembers anything. Yin et al.
    2020, "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion", who match variances too, and all norms.
    """
    norms = _narrowest(model, layers)
    if not norms:
        return None
    remembered = {
        name: (norm.bias.detach().clone(), norm.weight.detach().abs().clamp(min=1e-3)) for name, norm in norms
    }

    def score(acts: Activations) -> Tensor:
        away = []
        for name, (mean, deviation) in remembered.items():
            means = acts.maps[name].mean((2, 3))
            distance = (means - mean.to(means)) / deviation.to(means)
            away.append(distance.square().clamp(max=_MOST).mean(1))
        return -torch.stack(away).mean(0)

    return Objective(tuple(remembered), score, free=True)


def _narrowest(model: Model, layers: Sequence[str]) -> list[tuple[str, nn.BatchNorm2d]]:
    """Of the norms that run once before `layers` and remember means, the cheapest of each map size."""
    met: dict[str, tuple[int, int, int]] = {}
    repeated: set[str] = set()

    def watch(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if name in met:
            repeated.add(name)
        met[name] = (output.shape[1], output.shape[2], output.shape[3])

    trunk = Trunk(model, layers, fold=False)  # whose network is a frozen copy: the user's own stays as it is
    norms = {name: module for name, module in trunk.network.named_modules() if _remembers(module)}
    for name, module in norms.items():
        module.register_forward_hook(partial(watch, name))
    trunk.map_size(layers[0])
    narrow: dict[tuple[int, int], int] = {}
    for channels, *size in met.values():
        narrow[size[0], size[1]] = min(channels, narrow.get((size[0], size[1]), channels))
    return [
        (name, norms[name])
        for name, (channels, rows, columns) in met.items()
        if name not in repeated and channels == narrow[rows, columns]
    ]


def _remembers(module: nn.Module) -> bool:
    """A BatchNorm with weights that gives what it normalised: timm's may hold an activation function besides."""
    return (
        isinstance(module, nn.BatchNorm2d)
        and module.running_mean is not None
        and module.affine
        and isinstance(getattr(module, "act", None), (nn.Identity, type(None)))
    )
