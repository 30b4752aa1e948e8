"""Decorrelated colour: coordinates in which the colours of natural photographs are nearly independent."""

from __future__ import annotations

import torch
from torch import Tensor

# Square root of the covariance of ImageNet's colours, as published with Lucid (Olah et al. 2017, "Feature
# Visualization"): columns are light, blue-yellow and green-purple. Divided by its largest column norm, so that
# one unit of light is one unit of pixel value before the sigmoid.
_IMAGENET_SQRT_COVARIANCE = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_TO_RGB = _IMAGENET_SQRT_COVARIANCE / _IMAGENET_SQRT_COVARIANCE.norm(dim=0).max()


def to_rgb(decorrelated: Tensor) -> Tensor:
    """Decorrelated colour (n, 3, h, w) -> RGB before the sigmoid; any other number of channels passes unchanged."""
    if decorrelated.shape[1] != 3:
        return decorrelated
    return torch.einsum("dc,nchw->ndhw", _TO_RGB.to(decorrelated), decorrelated)


def from_rgb(rgb: Tensor) -> Tensor:
    """The inverse of `to_rgb`."""
    if rgb.shape[1] != 3:
        return rgb
    return torch.einsum("dc,nchw->ndhw", torch.linalg.inv(_TO_RGB).to(rgb), rgb)
