"""Transforms: small random changes that a picture must survive, drawn for each image on its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

# Images (n, c, h, w) and one generator per image -> images (n, c, h', w').
Transform = Callable[[Tensor, Sequence[torch.Generator]], Tensor]


@dataclass(frozen=True)
class Affine:
    """Shift, scale and rotate each image about its centre in one resampling; draws are uniform and per image.

    `shift`: at most so many pixels either way, per axis; `scale`: (smallest, largest) magnification; `degrees`: at
    most so far either way; `fill`: what lies beyond the edge (`reflection`, `border` or `zeros`).
    """

    shift: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    degrees: float = 0.0
    fill: Literal["reflection", "border", "zeros"] = "reflection"

    def __call__(self, images: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        matrices = self.matrices(generators, (images.shape[2], images.shape[3])).to(images)
        grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode=self.fill, align_corners=False)

    def matrices(self, generators: Sequence[torch.Generator], size: tuple[int, int]) -> Tensor:
        """(n, 2, 3) from output to input coordinates, both in [-1, 1] as `affine_grid` takes them."""
        draws = torch.stack([torch.rand(4, generator=generator) for generator in generators]) * 2 - 1
        height, width = size
        angle = draws[:, 0] * math.radians(self.degrees)
        middle, spread = sum(self.scale) / 2, (self.scale[1] - self.scale[0]) / 2
        cos, sin = torch.cos(angle), torch.sin(angle)
        # A circle stays a circle on an image that is not square: x and y are in units of half the width and height.
        rows = [
            torch.stack([cos, -sin * height / width, draws[:, 1] * self.shift * 2 / width], 1),
            torch.stack([sin * width / height, cos, draws[:, 2] * self.shift * 2 / height], 1),
        ]
        return torch.stack(rows, 1) / (middle + spread * draws[:, 3])[:, None, None]


@dataclass(frozen=True)
class Crop:
    """Cut `margin` pixels off every side."""

    margin: int

    def __call__(self, images: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        return images[:, :, self.margin : -self.margin or None, self.margin : -self.margin or None]


@dataclass(frozen=True)
class Pad:
    """Add `margin` pixels of `value` to every side."""

    margin: int
    value: float = 0.5

    def __call__(self, images: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        return F.pad(images, (self.margin,) * 4, value=self.value)


def chain(*transforms: Transform) -> Transform:
    """One transform that applies the given ones in order."""

    def apply(images: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        for transform in transforms:
            images = transform(images, generators)
        return images

    return apply
