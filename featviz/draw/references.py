"""Objectives that compare a picture with given images: feature inversion, caricature, accentuation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..network.models import Model
from ..network.trunk import Trunk
from .objectives import Activations, Objective


def inversion(model: Model, layer: str, images: Tensor) -> Objective:
    """Show what a layer keeps of each image: `1 - |h - h*|^2 / |h*|^2`, 1 where the picture's h is the image's `h*`.

    images: (pictures, channels, h, w) in [0, 1], as large as the pictures. Mahendran and Vedaldi 2015, "Understanding
    Deep Image Representations by Inverting Them". Raises `UserError` for images that the network does not take.
    """
    target = _activations(model, layer, images)
    lengths = target.square().sum(1).clamp(min=1e-12)

    def score(acts: Activations) -> Tensor:
        h = _fitting(acts.maps[layer], target, layer).flatten(1)
        return 1 - (h - target.to(h)[acts.index]).square().sum(1) / lengths.to(h)[acts.index]

    return Objective((layer,), score, len(images))


def caricature(model: Model, layer: str, images: Tensor, *, power: float = 1.0, floor: float = 0.1) -> Objective:
    """Exaggerate what a layer sees in each image: dot * max(floor, cos)**power with the image's own activations.

    dot is the product with the image's activations scaled to length 1, cos the true cosine, both over the whole map.
    images: as for `inversion`. Olah et al. 2017 onwards, Lucid's caricatures.
    """
    target = F.normalize(_activations(model, layer, images), dim=1)

    def score(acts: Activations) -> Tensor:
        h = _fitting(acts.maps[layer], target, layer).flatten(1)
        dot = (h * target.to(h)[acts.index]).sum(1)
        cos = dot / h.norm(dim=1).clamp(min=1e-12)
        strength: Tensor = dot * cos.clamp(min=floor).pow(power)
        return strength

    return Objective((layer,), score, len(images))


def accentuation(objective: Objective, model: Model, layer: str, images: Tensor, *, strength: float = 1.0) -> Objective:
    """Change each image just enough to excite something more: objective + strength * inversion(layer, images).

    Meant for pictures that start at the images: `maximize(..., start=images)`. The larger the strength and the earlier
    the layer, the more of the image stays. Hamblin et al. 2024, "Feature Accentuation".
    """
    return objective + strength * inversion(model, layer, images)


def _activations(model: Model, layer: str, images: Tensor) -> Tensor:
    """(pictures, c * h * w) of the unaltered network."""
    if images.dim() != 4 or images.shape[1] != model.preprocess.channels or not len(images):
        raise UserError(
            f"images to compare with have shape (pictures, {model.preprocess.channels}, height, width); "
            f"got {tuple(images.shape)}."
        )
    if not images.is_floating_point():
        raise UserError(f"images to compare with lie in [0, 1]; got {images.dtype}: divide by 255.")
    trunk = Trunk(model, [layer], fold=False)
    with torch.no_grad():
        return torch.cat([trunk(image[None].to(trunk.device))[layer].flatten(1) for image in images])


def _fitting(maps: Tensor, target: Tensor, layer: str) -> Tensor:
    if maps[0].numel() != target.shape[1]:
        raise UserError(
            f"{layer} gives {tuple(maps.shape[1:])} for the pictures, which are not as large as the images compared "
            f"with ({target.shape[1]} values): draw them with the images' size."
        )
    return maps
