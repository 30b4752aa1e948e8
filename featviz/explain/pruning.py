"""Leave out whole channels of convolutions, by what speaks for each; and convolutions that only copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..draw.maximize import maximize
from ..draw.objectives import channel
from ..errors import UserError
from ..network.copies import plain_copy
from ..network.layers import find_layer, outputs_at
from ..network.models import Model
from ..network.trunk import Trunk
from .target import BATCH

# How far a network with channels left out may be from the same one with those channels at nothing.
_SAME = 1e-4


@dataclass(frozen=True, eq=False)
class Evidence:
    """What speaks for each channel of a convolution, (channels,) each, higher is more.

    `variation`: standard deviation of its activation over images and places; `pattern`: how alike neighbouring weights
    of its kernels are, from about 0 for noise to 1 (of 1 x 1 kernels all alike); `picture`: the contrast of its
    superstimulus; `selective`: how few of the images make most of its activation, from 0 to 1 (Treves and Rolls 1991).
    """

    layer: str
    variation: Tensor
    pattern: Tensor
    picture: Tensor
    selective: Tensor

    @property
    def ranks(self) -> Tensor:
        """(channels,) the mean of the four ranks, from 0 for the weakest to 1."""
        parts = torch.stack([self.variation, self.pattern, self.picture, self.selective])
        return (parts.argsort(1).argsort(1).double() / max(1, parts.shape[1] - 1)).mean(0)


def evidence(model: Model, layer: str, images: Tensor, *, steps: int = 48, seed: int = 0) -> Evidence:
    """What speaks for each channel of a convolution, from images (n, channels, h, w) in [0, 1] and from its weights.

    The criteria by which one dissects a digit classifier by eye, made measurable: channels that hardly vary, look like
    noise, have a plain superstimulus and answer nothing in particular can go. steps: of the superstimuli.
    """
    convolution = _convolution(model, layer)
    trunk = Trunk(model, [layer], fold=False)
    with torch.inference_mode():
        maps = torch.cat([trunk(part.to(trunk.device))[layer].cpu() for part in torch.split(images, BATCH)])
    strongest = maps.relu().amax((2, 3))
    share = strongest.mean(0).square() / strongest.square().mean(0).clamp(min=1e-12)
    count = convolution.out_channels
    drawn = maximize(
        model, channel(layer, list(range(count))), keys=[f"{layer}:{number}" for number in range(count)],
        pictures=list(range(count)), size=model.preprocess.size, steps=steps, seed=seed, trunk=trunk,
    )  # fmt: skip
    pictures = drawn.images.float() / 255
    middle = pictures[..., 2:-2, 2:-2]
    return Evidence(
        layer,
        maps.transpose(0, 1).flatten(1).std(1),
        _coherence(convolution.weight.detach().cpu()),
        middle.flatten(1).std(1),
        1 - share,
    )


def _coherence(weights: Tensor) -> Tensor:
    """(channels,) correlation of neighbouring weights within the kernels, all neighbours of all inputs together."""
    centred = weights - weights.mean((2, 3), keepdim=True)
    across = (centred[..., :, 1:] * centred[..., :, :-1]).flatten(1).sum(1)
    down = (centred[..., 1:, :] * centred[..., :-1, :]).flatten(1).sum(1)
    return (across + down) / (2 * centred.square().flatten(1).sum(1)).clamp(min=1e-12)


def prune(model: Model, layer: str, keep: Sequence[int]) -> Model:
    """The model without a convolution's other channels: its rows, its norm's, and the next layer's columns are gone.

    For chains, in which one layer alone reads the convolution (norms, activations, pooling and flattening between):
    checked by a forward pass against the whole network with those channels at nothing. Raises `UserError` for any other
    network, for a layer that is no ungrouped convolution, and for channels that are none.
    """
    convolution = _convolution(model, layer)
    kept = sorted(set(keep))
    if not kept or kept[0] < 0 or kept[-1] >= convolution.out_channels:
        raise UserError(f"{layer!r} has channels 0 to {convolution.out_channels - 1}; kept are to be {kept[:9]}.")
    network = plain_copy(model.network)
    places = torch.tensor(kept)
    norms, reader = _after(model, layer)
    _keep_rows(network.get_submodule(layer), places)
    for name in norms:
        _keep_rows(network.get_submodule(name), places)
    _keep_columns(network.get_submodule(reader), places, convolution.out_channels)
    smaller = replace(model, network=network)
    _check_same(model, smaller, layer, reader, places)
    return smaller


def copies(model: Model, layer: str, images: Tensor) -> Tensor:
    """(channels,) how well each channel of a convolution is one of its input channels over again, from 0 to 1.

    The largest squared correlation with any input channel, over images (n, channels, h, w) in [0, 1] and places, where
    the convolution keeps the map's size. Near 1 for all: the layer hands on what it is given and could be left out.
    """
    convolution = _convolution(model, layer)
    network = Trunk(model, [layer], fold=False).network
    seen: list[Tensor] = []
    handle = find_layer(network, layer).register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    try:
        with torch.inference_mode():
            made = outputs_at(network, model.preprocess.normalize(images).to(model.device), [layer])[layer]
    finally:
        handle.remove()
    given = seen[0]
    if given.shape[2:] != made.shape[2:]:
        raise UserError(f"{layer!r} makes maps of {tuple(made.shape[2:])} of {tuple(given.shape[2:])}: it copies none.")
    rows = [_standard(maps.transpose(0, 1).flatten(1).double()) for maps in (made, given)]
    found: Tensor = (rows[0] @ rows[1].T / rows[0].shape[1]).square().amax(1).float().cpu()
    assert len(found) == convolution.out_channels
    return found


def _standard(values: Tensor) -> Tensor:
    centred = values - values.mean(1, keepdim=True)
    return centred / centred.square().mean(1, keepdim=True).sqrt().clamp(min=1e-12)


def _convolution(model: Model, layer: str) -> nn.Conv2d:
    module = find_layer(model.network, layer)
    if not isinstance(module, nn.Conv2d) or module.groups != 1:
        raise UserError(f"{layer!r} is no convolution of all its inputs, but {type(module).__name__}.")
    return module


def _after(model: Model, layer: str) -> tuple[list[str], str]:
    """The norms behind a convolution and the layer that reads it, by the order in which they run."""
    network = plain_copy(model.network)
    order: list[str] = []

    def note(name: str) -> Any:
        return lambda module, inputs, output: order.append(name)

    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
    watched = {name: module for name, module in network.named_modules() if isinstance(module, kinds)}
    handles = [module.register_forward_hook(note(name)) for name, module in watched.items()]
    try:
        with torch.inference_mode():
            network(_probe(model))
    finally:
        for handle in handles:
            handle.remove()
    norms: list[str] = []
    for name in order[order.index(layer) + 1 :]:
        if not isinstance(network.get_submodule(name), nn.BatchNorm2d):
            return norms, name
        norms.append(name)
    raise UserError(f"nothing reads {layer!r}: its channels are what the network returns.")


def _keep_rows(module: Any, kept: Tensor) -> None:
    """Of a convolution or a norm, the output channels."""
    for name in ("weight", "bias", "running_mean", "running_var"):
        values = getattr(module, name, None)
        if values is not None:
            part = values.detach()[kept].clone()
            setattr(module, name, nn.Parameter(part) if isinstance(values, nn.Parameter) else part)
    if isinstance(module, nn.Conv2d):
        module.out_channels = len(kept)
    else:
        module.num_features = len(kept)


def _keep_columns(module: Any, kept: Tensor, channels: int) -> None:
    """Of the layer that reads them, the inputs: a linear layer reads each channel's places one after the other."""
    if isinstance(module, nn.Linear):
        each = module.in_features // channels
        kept = (kept[:, None] * each + torch.arange(each)).flatten()
        module.in_features = len(kept)
    else:
        module.in_channels = len(kept)
    module.weight = nn.Parameter(module.weight.detach()[:, kept].clone())


def _check_same(whole: Model, smaller: Model, layer: str, reader: str, kept: Tensor) -> None:
    """Raise `UserError` unless leaving channels out is the same as their reaching the next layer as nothing."""
    network = plain_copy(whole.network)
    gone = torch.ones(_convolution(whole, layer).out_channels, dtype=torch.bool)
    gone[kept] = False

    def nothing(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        inputs = given[0].clone()
        each = inputs.shape[1] // len(gone)
        inputs[:, gone.repeat_interleave(each)] = 0
        return (inputs, *given[1:])

    network.get_submodule(reader).register_forward_pre_hook(nothing)
    try:
        with torch.inference_mode():
            expected, found = network(_probe(whole)), smaller.network(_probe(whole))
    except RuntimeError as error:
        raise UserError(f"{layer!r} is not read by {reader!r} alone: only chains can be pruned.") from error
    if not torch.allclose(expected, found, atol=_SAME * float(expected.abs().max())):
        raise UserError(f"{layer!r} is not read by {reader!r} alone: only chains can be pruned.")


def _probe(model: Model) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, model.preprocess.channels, *model.preprocess.size, generator=generator)
