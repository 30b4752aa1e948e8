"""One image -> where in it lies what excites a unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..errors import unknown
from ..network.models import Model
from ..network.units import Unit
from .attention import gradient_rollout, rollout
from .cam import cam, grad_cam, grad_cam_pp, smooth_grad_cam_pp
from .occlusion import occlusion
from .saliency import deconvolution, guided_backpropagation, integrated_gradients, saliency
from .target import Target, check_size


@dataclass(frozen=True, eq=False)
class Attribution:
    """Where in an image lies what excites a unit.

    `map`: (height, width) of the network's input, float32, higher is more; `raw`: the same as the method works it out,
    at its own resolution; `signed`: whether negative values speak against the unit; `note`: what is special about it.
    """

    method: str
    unit: Unit
    map: Tensor
    raw: Tensor
    signed: bool
    note: str = ""


Method = Callable[..., tuple[Tensor, str]]


@dataclass(frozen=True)
class Known:
    """A method: its function, whether negative values speak against the unit, and what it is called."""

    function: Method
    signed: bool
    title: str


# In the order in which a sheet shows them.
METHODS: Mapping[str, Known] = {
    "saliency": Known(saliency, False, "Saliency"),
    "integrated": Known(integrated_gradients, True, "Integrated gradients"),
    "guided": Known(guided_backpropagation, False, "Guided backpropagation"),
    "deconv": Known(deconvolution, False, "Deconvolution"),
    "occlusion": Known(occlusion, True, "Occlusion"),
    "probability": Known(partial(occlusion, probability=True), True, "Occlusion of the probability"),
    "cam": Known(cam, True, "CAM"),
    "gradcam": Known(grad_cam, False, "Grad-CAM"),
    "gradcampp": Known(grad_cam_pp, False, "Grad-CAM++"),
    "smoothgradcampp": Known(smooth_grad_cam_pp, False, "Smooth Grad-CAM++"),
    "rollout": Known(rollout, False, "Attention rollout"),
    "attention": Known(gradient_rollout, False, "Attention by its derivative"),
}


def attribute(model: Model, image: Tensor, unit: Unit, method: str, **options: Any) -> Attribution:
    """The map of one method for a unit on an image (channels, h, w) in [0, 1] of the model's input size.

    options: the method's own. Raises `UserError` for an unknown method and for one that the network does not allow.
    """
    return attribution(Target(model, unit), image, method, **options)


def attribution(target: Target, image: Tensor, method: str, **options: Any) -> Attribution:
    """`attribute` for a target that several methods share."""
    if method not in METHODS:
        raise unknown("method", method, list(METHODS))
    check_size(target.model, image)
    image, known = image.cpu(), METHODS[method]
    raw, note = known.function(target, image[None], **options)
    return Attribution(method, target.unit, enlarged(raw, (image.shape[1], image.shape[2])), raw, known.signed, note)


def enlarged(raw: Tensor, size: tuple[int, int]) -> Tensor:
    """A map (rows, columns) at an image's (height, width)."""
    return raw if tuple(raw.shape) == size else F.interpolate(raw[None, None], size, mode="bilinear")[0, 0]
