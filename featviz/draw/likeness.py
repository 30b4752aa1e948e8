"""How like photographs a picture looks to the network's layers, so that it can be drawn like them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import UserError
from ..network.models import Model
from ..network.trunk import Trunk
from .objectives import Activations, Objective
from .path_similarity import path_layers

# Quantiles by which a channel's activations are compared.
_QUANTILES = 32


def likeness(model: Model, layer: str, photographs: Sequence[Tensor]) -> Objective:
    """How near a picture's activations are to those of photographs, whatever lies where; 0, and less the farther.

    photographs: for each picture some (k, channels, h, w) in [0, 1], such as those that excite its unit the most. Of
    every channel of the layers on the way to `layer`, the values over the map are sorted and compared with those over
    all its photographs, in units of the channel's deviation over the photographs. VITAL, ICCV 2025: distribution
    alignment. Raises `UserError` where a picture has no photographs.
    """
    if not photographs or any(each.dim() != 4 or not len(each) for each in photographs):
        raise UserError("every picture takes at least one photograph (k, channels, height, width) to be drawn like.")
    layers = [name for name in path_layers(model, layer) if name != layer] or [layer]
    trunk = Trunk(model, layers)
    with torch.no_grad():
        seen = [trunk(each.to(trunk.device)) for each in photographs]
    wanted = {
        name: torch.stack([_quantiles(maps[name].transpose(0, 1).flatten(1)) for maps in seen]) for name in layers
    }

    def score(acts: Activations) -> Tensor:
        away = []
        for name, targets in wanted.items():
            own = targets.to(acts.maps[name])[acts.index]
            distance = (_quantiles(acts.maps[name].flatten(2)) - own).abs().mean(2)
            spread = own.std(2) + 0.1 * own.std(2).mean(1, keepdim=True) + 1e-6
            away.append((distance / spread).mean(1))
        return -torch.stack(away).mean(0)

    return Objective(tuple(layers), score, len(photographs), free=True)


def _quantiles(values: Tensor) -> Tensor:
    """(..., n) -> (..., quantiles) of the values, in rising order."""
    return torch.quantile(values, torch.linspace(0, 1, _QUANTILES).to(values), dim=-1).movedim(0, -1)
