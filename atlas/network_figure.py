"""Figures of a network's insides: the weights of a convolution, and what a layer makes of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from featviz.errors import UserError
from featviz.network.layers import find_layer
from featviz.network.models import Model
from featviz.network.trunk import Trunk
from search.images.blank import blank_figure

from .figure import DPI, INK, PAPER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TILE, _GAP, _MARGIN, _HEAD, _UNDER = 84, 10, 24, 58, 18


def weights_figure(model: Model, layer: str, *, title: str = "", columns: int = 8) -> Figure:
    """The kernels of a convolution of one or three channels, such as a network's first: a tile for each output channel.

    One input channel: red above zero, blue below, on one scale. Three: as colours about grey, each kernel on its own
    scale. Raises `UserError` for a layer that is no such convolution.
    """
    module = find_layer(model.network, layer)
    if not isinstance(module, nn.Conv2d) or module.weight.shape[1] not in (1, 3):
        raise UserError(f"the weights of {layer!r} are no pictures: that takes a convolution of one or three channels.")
    weights, title = module.weight.detach().float().cpu(), title or f"{layer}: weights"
    if weights.shape[1] == 3:
        scale = weights.abs().flatten(1).amax(1)[:, None, None, None].clamp(min=1e-12)
        return tiles_figure(
            list((weights / scale / 2 + 0.5).permute(0, 2, 3, 1)), title or f"{layer}: weights", columns
        )
    return tiles_figure(list(weights[:, 0]), title or f"{layer}: weights", columns)


def maps_figure(
    model: Model,
    layer: str,
    image: Tensor,
    *,
    most: int = 16,
    by: str = "activation",
    title: str = "",
    columns: int = 8,
) -> Figure:
    """What a layer makes of an image (channels, h, w) in [0, 1]: the maps of its strongest or most varying channels.

    by: `activation`, those with the largest maximum, or `variation`, with the largest deviation over places; all on one
    scale, red above zero.
    """
    with torch.inference_mode():
        maps = Trunk(model, [layer], fold=False)(image[None].to(model.device))[layer][0].cpu()
    rule = {"activation": maps.flatten(1).amax(1), "variation": maps.flatten(1).std(1, correction=0)}
    if by not in rule:
        raise UserError(f"channels are chosen by {' or '.join(rule)}; got {by!r}.")
    order = rule[by].argsort(descending=True)[:most]
    names = [f"{channel}: {float(maps[channel].max()):.3g}" for channel in order.tolist()]
    return tiles_figure([maps[channel] for channel in order.tolist()], title or f"{layer}, by {by}", columns, names)


def tiles_figure(tiles: list[Tensor], title: str, columns: int, names: list[str] | None = None) -> Figure:
    """Pictures (h, w), red above zero on one scale, or (h, w, 3) in [0, 1], each over its number or name."""
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    width = max(2 * _MARGIN + columns * (_TILE + _GAP) - _GAP, 420)
    height = _HEAD + rows * (_TILE + _GAP + _UNDER) + _MARGIN // 2
    figure = blank_figure((width / DPI, height / DPI), color=PAPER, dpi=DPI)
    figure.text(_MARGIN / width, 1 - 28 / height, title, fontsize=12, color=INK, va="center", parse_math=False)
    limit = max(float(tile.abs().max()) for tile in tiles) or 1.0
    for number, tile in enumerate(tiles):
        left = _MARGIN + number % columns * (_TILE + _GAP)
        top = _HEAD + number // columns * (_TILE + _GAP + _UNDER)
        axes = figure.add_axes((left / width, 1 - (top + _TILE) / height, _TILE / width, _TILE / height))
        if tile.ndim == 3:
            axes.imshow(np.asarray(tile), interpolation="nearest")
        else:
            axes.imshow(np.asarray(tile), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        axes.set_axis_off()
        name = names[number] if names else str(number)
        figure.text(left / width, 1 - (top + _TILE + 3) / height, name, fontsize=8, color=INK, va="top")
    return figure
