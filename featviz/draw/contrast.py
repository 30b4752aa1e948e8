"""How strong the colours of pictures are, beside those of photographs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ColorRange:
    """Between which values nine photographs in ten lie: their 5th and 95th percentiles.

    `contrast`: (channels, 2) standard deviation of each channel; `saturation`: (2,) see `saturation`.
    """

    contrast: Tensor
    saturation: Tensor

    @classmethod
    def of(cls, contrasts: Tensor, saturations: Tensor) -> ColorRange:
        """That of photographs' contrasts (n, channels) and saturations (n,)."""
        share = torch.tensor([0.05, 0.95]).to(contrasts)
        return cls(torch.quantile(contrasts, share, dim=0).T, torch.quantile(saturations, share))

    def holds(self, image: Tensor) -> tuple[bool, bool]:
        """Whether the contrast of every channel of an image (channels, h, w) lies within, and its saturation."""
        own = contrast(image[None])[0]
        within = (own >= self.contrast[:, 0]) & (own <= self.contrast[:, 1])
        colorful = float(saturation(image[None])[0])
        return bool(within.all()), float(self.saturation[0]) <= colorful <= float(self.saturation[1])


# Of 500 ImageNet photographs, one a class of 500 classes, central squares at 224 x 224.
PHOTOGRAPHS = ColorRange(torch.tensor([[0.135, 0.330], [0.132, 0.321], [0.121, 0.330]]), torch.tensor([0.027, 0.327]))


def contrast(images: Tensor) -> Tensor:
    """(n, channels) standard deviation of each channel's values, of images (n, channels, h, w) in [0, 1]."""
    return images.flatten(2).std(2, correction=0)


def saturation(images: Tensor) -> Tensor:
    """(n,) mean difference between the largest and the smallest channel of a pixel; 0 is grey."""
    return (images.amax(1) - images.amin(1)).mean((1, 2))
