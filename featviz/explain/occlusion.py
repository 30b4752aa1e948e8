"""Cover a part of the image and see what the unit misses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError, unknown
from .target import BATCH, NotAllowedError, Target

FILLS = ("mean", "black", "white", "blur")


def occlusion(
    target: Target, image: Tensor, *, size: int = 0, stride: int = 0, fill: str = "mean", probability: bool = False
) -> tuple[Tensor, str]:
    """How much the activation drops when a square is covered: each pixel's mean over the squares that cover it.

    size, stride: of the square, in pixels; 0: a sixth of the input's shorter side, and half of that. fill: what it is
    covered with, mean, black, white or blur. probability: of a class, the drop of its probability, not of its logit.
    Zeiler and Fergus 2013, "Visualizing and Understanding Convolutional Networks".
    """
    height, width = image.shape[-2:]
    size = size or square_of(image)
    stride = stride or max(1, size // 2)
    check_squares(min(height, width), size, stride)
    measure = target.probabilities if probability else target.values
    before = measure(image)
    if before is None:
        raise NotAllowedError(f"{target.unit} is no class among others: only such a class has a probability.")
    cover, drops, covered = filled(image, fill)[0], torch.zeros(height, width), torch.zeros(height, width)
    places = [(top, left) for top in _starts(height, size, stride) for left in _starts(width, size, stride)]
    for start in range(0, len(places), BATCH):
        part = places[start : start + BATCH]
        views = image.repeat(len(part), 1, 1, 1)
        for view, (top, left) in zip(views, part, strict=True):
            view[:, top : top + size, left : left + size] = cover[:, top : top + size, left : left + size]
        after = measure(views)
        assert after is not None
        for (top, left), value in zip(part, after, strict=True):
            drops[top : top + size, left : left + size] += before[0] - value
            covered[top : top + size, left : left + size] += 1
    what = "probability" if probability else "activation"
    return drops / covered.clamp(min=1), f"drop of the {what}; squares of {size} every {stride} pixels, {fill}"


def square_of(image: Tensor) -> int:
    """The side, in pixels, of the squares that an image (..., h, w) is covered by unless another is given: a sixth."""
    return max(1, min(image.shape[-2:]) // 6)


def check_squares(side: int, size: int, stride: int) -> None:
    """Raise `UserError` for squares larger than an image of the side, or so far apart that they do not cover it.

    stride 0: half the size.
    """
    if not 1 <= size <= side:
        raise UserError(f"the occluding square lies within the image, whose shorter side is {side}; got {size}.")
    if not 0 <= stride <= size:
        raise UserError(f"squares of {size} pixels are moved on by 1 to {size}, so that they cover all; got {stride}.")


def filled(image: Tensor, fill: str) -> Tensor:
    """An image of nothing in the place of an image (n, channels, h, w): mean, black, white, or the image blurred."""
    if fill == "blur":
        small = F.interpolate(image, [max(1, side // 16) for side in image.shape[-2:]], mode="area")
        return F.interpolate(small, image.shape[-2:], mode="bilinear", align_corners=False)
    shades = {"mean": image.mean((2, 3), keepdim=True).expand_as(image), "black": torch.zeros_like(image)}
    shades["white"] = torch.ones_like(image)
    if fill not in shades:
        raise unknown("fill", fill, list(FILLS))
    return shades[fill]


def _starts(length: int, size: int, stride: int) -> list[int]:
    """Where squares begin, the last at the edge."""
    return sorted({*range(0, length - size + 1, stride), length - size})
