"""Penalties: what a picture should not have too much of. Subtract them: `class_logit(281) - 0.001 * l2()`.

Each is an `Objective` that reads no layer, the same for any number of pictures, at least 0: a sum over a picture's
values, so that a weight which suits 128 x 128 pixels counts four times as much at 256 x 256.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from .objectives import Activations, Objective


def l1(*, around: float = 0.5) -> Objective:
    """L1 norm of the picture less `around`, by default the grey in the middle of [0, 1]."""
    return _on_images(lambda images: (images - around).abs())


def l2(*, around: float = 0.5) -> Objective:
    """Squared L2 norm of the picture less `around`. Simonyan et al. 2013, "Deep Inside Convolutional Networks"."""
    return _on_images(lambda images: (images - around).square())


def total_variation(*, power: float = 1.0) -> Objective:
    """Absolute differences of neighbouring pixels, down and across, each to the `power`.

    Mahendran and Vedaldi 2015, "Understanding Deep Image Representations by Inverting Them".
    """

    def score(acts: Activations) -> Tensor:
        down = acts.images.diff(dim=2).abs().pow(power)
        across = acts.images.diff(dim=3).abs().pow(power)
        return down.sum((1, 2, 3)) + across.sum((1, 2, 3))

    return Objective((), score, free=True)


def blur() -> Objective:
    """Squared differences between the picture and itself blurred by a 3 x 3 binomial, which is taken as given.

    So its gradient blurs the picture a little at each step. Olah et al. 2017, "Feature Visualization": frequency
    penalization.
    """
    row = torch.tensor([0.25, 0.5, 0.25])

    def difference(images: Tensor) -> Tensor:
        kernel = torch.outer(row, row).to(images).expand(images.shape[1], 1, 3, 3)
        padded = F.pad(images.detach(), (1, 1, 1, 1), mode="reflect")
        return (images - F.conv2d(padded, kernel, groups=images.shape[1])).square()

    return _on_images(difference)


def boundary(*, width: int = 5, value: float = 0.5) -> Objective:
    """Squared differences from `value` within `width` pixels of the edge, where else a picture collects noise.

    Carter et al. 2019, "Activation Atlas": the notebooks' penalty on an icon's border.
    """
    if width < 1:
        raise UserError(f"a border is at least one pixel wide; got {width}.")

    def difference(images: Tensor) -> Tensor:
        inside = torch.zeros_like(images[:1, :1])
        inside[:, :, width:-width, width:-width] = 1
        return (images - value).square() * (1 - inside)

    return _on_images(difference)


def _on_images(values: Callable[[Tensor], Tensor]) -> Objective:
    return Objective((), lambda acts: values(acts.images).sum((1, 2, 3)), free=True)
