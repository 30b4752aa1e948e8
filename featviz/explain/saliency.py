"""The activation's derivative by the pixels, as it is and with rectifiers that send another one back."""

from __future__ import annotations

import torch
from torch import Tensor

from ..network.rectifiers import BackwardRule, Rule
from .occlusion import filled
from .target import Target

_STEPS = 128


def saliency(target: Target, image: Tensor) -> tuple[Tensor, str]:
    """How much each pixel moves the activation: the largest derivative of its channels, whatever its sign.

    Simonyan, Vedaldi and Zisserman 2013, "Deep Inside Convolutional Networks".
    """
    return target.gradients(image)[0].abs().amax(0), ""


def integrated_gradients(
    target: Target, image: Tensor, *, steps: int = _STEPS, baseline: str = "black"
) -> tuple[Tensor, str]:
    """What each pixel adds on the straight way from a baseline to the image; all of it adds up to the difference.

    steps: points on the way (midpoint rule). Sundararajan, Taly and Yan 2017, "Axiomatic Attribution for Deep
    Networks".
    """
    start = filled(image, baseline)
    shares = (torch.arange(steps) + 0.5) / steps
    way = start + shares[:, None, None, None] * (image - start)
    found = (target.gradients(way).mean(0, keepdim=True) * (image - start))[0].sum(0)
    whole = float(target.values(image) - target.values(start))
    return found, f"from {baseline} in {steps} steps: {float(found.sum()):.2f} of the difference of {whole:.2f}"


def guided_backpropagation(target: Target, image: Tensor) -> tuple[Tensor, str]:
    """The derivative, with what is negative stopped on the way back at every rectifier, and all where one is shut.

    Springenberg, Dosovitskiy, Brox and Riedmiller 2014, "Striving for Simplicity".
    """
    return _by_rule(target, image, _guided)


def _guided(gradient: Tensor, slope: Tensor, above: Tensor) -> Tensor:
    # Products of numbers: many times as fast as those of numbers and truth values.
    passed = gradient.relu().mul_(above.to(gradient.dtype))
    return passed if above is slope else passed.mul_(slope.sign().relu_())


def deconvolution(target: Target, image: Tensor) -> tuple[Tensor, str]:
    """The strongest place alone, sent back to the pixels: rectified at each rectifier, unpooled by max pools' switches.

    Of a channel's map only the maximum is kept. Zeiler and Fergus 2013, "Visualizing and Understanding Convolutional
    Networks".
    """
    strongest = _at_strongest(target, image)
    found, note = _by_rule(strongest, image, lambda gradient, slope, above: gradient.relu())
    said = [] if strongest is target else [f"from the strongest place, {strongest.unit.position}"]
    return found, "; ".join([*said, note] if note else said)


def _at_strongest(target: Target, image: Tensor) -> Target:
    """The unit at the place of its map where it is the strongest; as it is, where it has a place or no map."""
    unit = target.unit
    if unit.position is not None or unit.is_class:
        return target
    with torch.inference_mode():
        maps = target.trunk(image.to(target.trunk.device))[unit.layer]
        values = torch.einsum("chw,c->hw", maps[0], unit.direction(maps.shape[1]).to(maps))
    if values.numel() == 1:
        return target
    row, column = divmod(int(values.argmax()), values.shape[1])
    return target.at((row, column))


def _by_rule(target: Target, image: Tensor, rule: Rule) -> tuple[Tensor, str]:
    """The derivative by another rule at rectifiers, the largest of the colours'; and what was no ReLU."""
    with BackwardRule(rule, alike=True) as changed:
        found = target.gradients(image)[0].abs().amax(0)
    others = sorted(changed.met - {"relu", "relu6"})
    if not changed.met:
        return found, "the network has no rectifier: this is the plain derivative"
    if others:
        return found, f"{', '.join(others)} treated as if it were a ReLU: what is negative on the way back stops there"
    return found, ""
