"""Transforms: small random changes that a picture must survive, drawn for each image on its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

# The strongest noise of a view, as a share of the range of values.
NOISE = 0.4
# Images (n, c, h, w) and one generator per image -> images (n, c, h', w').
Transform = Callable[[Tensor, Sequence[torch.Generator]], Tensor]


@dataclass(frozen=True)
class Affine:
    """Shift, scale and rotate each image about its centre in one resampling; draws are per image.

    `shift`: at most so many pixels either way, per axis; `scale`: (smallest, largest) magnification, uniform on a
    logarithmic scale, so that near and far come up alike; `degrees`: at most so far either way; `fill`: what lies
    beyond the edge (`reflection`, `border` or `zeros`); `share`: the result's side as a share of the image's, above 0:
    the whole image on fewer or more pixels, resampled only once.
    """

    shift: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    degrees: float = 0.0
    fill: Literal["reflection", "border", "zeros"] = "reflection"
    share: float = 1.0

    def __call__(self, images: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        height, width = images.shape[2:]
        matrices = self.matrices(generators, (height, width)).to(images)
        size = [max(1, round(height * self.share)), max(1, round(width * self.share))]
        grid = F.affine_grid(matrices, [*images.shape[:2], *size], align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode=self.fill, align_corners=False)

    def matrices(self, generators: Sequence[torch.Generator], size: tuple[int, int]) -> Tensor:
        """(n, 2, 3) from output to input coordinates, both in [-1, 1] as `affine_grid` takes them."""
        draws = torch.stack([torch.rand(4, generator=generator) for generator in generators]) * 2 - 1
        height, width = size
        angle = draws[:, 0] * math.radians(self.degrees)
        smallest, largest = (math.log(each) for each in self.scale)
        scale = ((smallest + largest) / 2 + (largest - smallest) / 2 * draws[:, 3]).exp()
        cos, sin = torch.cos(angle), torch.sin(angle)
        # A circle stays a circle on an image that is not square: x and y are in units of half the width and height.
        rows = [
            torch.stack([cos, -sin * height / width, draws[:, 1] * self.shift * 2 / width], 1),
            torch.stack([sin * width / height, cos, draws[:, 2] * self.shift * 2 / height], 1),
        ]
        return torch.stack(rows, 1) / scale[:, None, None]


@dataclass(frozen=True)
class Noise:
    """Add normal noise to each image, of a strength of its own: uniform from 0 to `most`, a share of the range [0, 1].

    `rising`: while a picture is drawn, `most` grows from nothing in step with its progress: at first every unit gets a
    gradient, later only what shows through noise pays.
    """

    most: float
    rising: bool = True

    def __call__(self, images: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        if not self.most:
            return images
        shape = images.shape[1:]
        noise = [torch.rand(1, generator=each) * torch.randn(shape, generator=each) for each in generators]
        return images + self.most * torch.stack(noise).to(images)

    def at(self, progress: float) -> Noise:
        return replace(self, most=self.most * progress) if self.rising else self


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


@dataclass(frozen=True)
class Chain:
    """One transform that applies the given ones in order."""

    transforms: tuple[Transform, ...]

    def __call__(self, images: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        for transform in self.transforms:
            images = transform(images, generators)
        return images

    def at(self, progress: float) -> Chain:
        return Chain(tuple(at(transform, progress) for transform in self.transforms))


def chain(*transforms: Transform) -> Chain:
    """One transform that applies the given ones in order."""
    return Chain(transforms)


def at(transform: Transform, progress: float) -> Transform:
    """The transform as it is at `progress` in [0, 1] of a drawing: what grows with it has a method `at`."""
    grow = getattr(transform, "at", None)
    grown: Transform = transform if grow is None else grow(progress)
    return grown


def views(
    side: float,
    *,
    scale: tuple[float, float] = (0.5, 2.0),
    shift: float = 0.15,
    noise: float = NOISE,
    share: float = 5 / 7,
) -> Chain:
    """What a picture of so many pixels per side must survive so that others recognise it, too.

    It is looked at from near and far, moved by up to `shift` of its side, turned by up to 15 degrees, and through
    noise. Clean views at one size reward fine texture that no other network and no person understands: the noise hides
    it, the range of sizes breaks it up. share: views on fewer pixels than the picture's cost less, so that there can be
    more of them; in the same time that is worth more.
    """
    return chain(Affine(shift=shift * side, scale=scale, degrees=15, share=share), Noise(noise))
