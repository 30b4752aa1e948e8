"""One convolution's channel on one image, taken apart input channel by input channel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..network.layers import find_layer, layer_names, outputs_at
from ..network.models import Model
from ..network.trunk import Trunk
from ..network.units import Unit
from .target import check_size, fitting

# Input channels that are sent through the convolution at once.
_CHUNK = 32


@dataclass(frozen=True, eq=False)
class Dissection:
    """What each input channel adds to one channel of a convolution's output, on one image.

    `channels`: (k,) numbers of the input channels that the output channel reads, those of its group; all else in their
    order: `inputs` (k, h, w) the maps x_j; `weights` (k, kernel rows, kernel columns) w_j; `contributions` (k, rows,
    columns) a_j = x_j * w_j; `output` (rows, columns) y, which is `bias` plus the sum of all a_j; `place`: row and
    column where y is the largest.
    """

    unit: Unit
    channels: Tensor
    inputs: Tensor
    weights: Tensor
    contributions: Tensor
    output: Tensor
    bias: float

    @property
    def place(self) -> tuple[int, int]:
        row, column = divmod(int(self.output.argmax()), self.output.shape[1])
        return (row, column)

    @property
    def at_place(self) -> Tensor:
        """(k,) what each input channel adds where the output is the largest."""
        row, column = self.place
        return self.contributions[:, row, column]

    def strongest_first(self) -> Dissection:
        """The same with the channels in the order of how much they add, or take away, where the output is largest."""
        order = self.at_place.abs().argsort(descending=True, stable=True)
        parts = {name: getattr(self, name)[order] for name in ("channels", "inputs", "weights", "contributions")}
        return replace(self, **parts)

    def running_sums(self) -> Tensor:
        """(k, rows, columns) the bias and the first contribution, and the second, and so on: c_j, the last being y."""
        return self.bias + self.contributions.cumsum(0)


def dissect(model: Model, unit: Unit, image: Tensor) -> Dissection:
    """Take a channel of a convolution apart on an image (channels, h, w) in [0, 1] of the model's input size.

    Any nn.Conv2d: grouped, depthwise, 1 x 1, strided, dilated, padded in any way; each contribution is the convolution
    of its input channel alone. Of a layer that standardises its weights before it uses them, those shown are as it
    keeps them. Raises `UserError` for a layer that is no such convolution, naming some that are.
    """
    network = Trunk(model, [unit.layer], fold=False).network
    layer = find_layer(network, unit.layer)
    if not isinstance(layer, nn.Conv2d):
        raise UserError(
            f"layer {unit.layer!r} is no convolution but {type(layer).__name__}; convolutions are "
            f"{', '.join(_convolutions(network)[:5])}, ..."
        )
    whole = not unit.vectors and unit.sign > 0 and unit.position is None
    if not whole or not 0 <= unit.channel < layer.out_channels:
        raise UserError(f"{unit.layer!r} has channels 0 to {layer.out_channels - 1}; {unit} is none of them.")
    check_size(model, image)
    inputs = model.preprocess.normalize(image[None]).to(model.device)
    given, output = fitting(model, lambda: _seen(network, unit.layer, inputs))
    size = layer.in_channels // layer.groups
    first = unit.channel // (layer.out_channels // layer.groups) * size
    channels = torch.arange(first, first + size)
    bias = 0.0 if layer.bias is None else float(layer.bias[unit.channel])
    with torch.inference_mode():
        parts = [_alone(layer, given, chunk, unit.channel) - bias for chunk in torch.split(channels, _CHUNK)]
    return Dissection(
        unit,
        channels,
        given[0, channels].cpu(),
        layer.weight[unit.channel].detach().cpu(),
        torch.cat(parts).cpu(),
        output[0, unit.channel].cpu(),
        bias,
    )


def _seen(network: nn.Module, layer: str, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What the convolution is given and what it makes of it."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        kept.append(given[0].detach().clone())

    handle = find_layer(network, layer).register_forward_pre_hook(keep)
    try:
        with torch.inference_mode():
            output = outputs_at(network, inputs, [layer])[layer]
    finally:
        handle.remove()
    return kept[0], output


def _alone(layer: nn.Conv2d, given: Tensor, channels: Tensor, wanted: int) -> Tensor:
    """(k, rows, columns) the output channel, the bias in it, as each of some input channels alone makes it."""
    single = torch.zeros(len(channels), *given.shape[1:], device=given.device)
    rows = torch.arange(len(channels))
    single[rows, channels] = given[0, channels]
    made: Tensor = layer(single)
    return made[:, wanted]


def _convolutions(network: nn.Module) -> list[str]:
    return [name for name in layer_names(network) if isinstance(network.get_submodule(name), nn.Conv2d)]
