"""A unit's position -> the box of the image that can reach it, and the smaller one that does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from featviz.network.copies import cpu_copy
from featviz.network.layers import outputs_at
from featviz.network.models import Model
from featviz.network.trunk import Trunk

Box = tuple[float, float, float, float]

# Markers per forward pass.
_BATCH = 16
# Width of the strip that is sent through instead of a whole image.
_STRIP = 64
# Share of the gradient's energy that an effective field leaves out, half of it at either end of each side.
_OUTSIDE = 0.1


@dataclass(frozen=True)
class ReceptiveFields:
    """Which part of the input each position of a layer's map depends on.

    `rows`: (map rows, 2) first and last-but-one input row of each row of the map, half-open; `columns`: likewise.
    `size`: (height, width) of the input. `is_global`: every position depends on the whole input, as behind attention
    or squeeze-and-excitation; the boxes then say nothing.
    """

    rows: Tensor
    columns: Tensor
    size: tuple[int, int]

    @cached_property
    def is_global(self) -> bool:
        height, width = self.size
        whole_rows = bool((self.rows == torch.tensor([0, height])).all())
        return whole_rows and bool((self.columns == torch.tensor([0, width])).all())

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) in pixels of the input, half-open."""
        (top, bottom), (left, right) = self.rows[row].tolist(), self.columns[column].tolist()
        return (left, top, right, bottom)

    def effective_box(self, row: int, column: int, extent: tuple[float, float]) -> Box:
        """A box of (height, width) `extent` about the position's place in the input, kept inside it."""
        height, width = min(extent[0], self.size[0]), min(extent[1], self.size[1])
        middle = self.middle(row, column)
        top = min(max(middle[0] - height / 2, 0.0), self.size[0] - height)
        left = min(max(middle[1] - width / 2, 0.0), self.size[1] - width)
        return (left, top, left + width, top + height)

    def middle(self, row: int, column: int) -> tuple[float, float]:
        """(row, column) of the input that a position looks at, in pixels."""
        return (_middle(self.rows, row, self.size[0]), _middle(self.columns, column, self.size[1]))

    def in_image(self, box: Box, view: Box) -> Box:
        """A box of the input in pixels of the original image, of which the input is the part `view`, resized."""
        left, top, right, bottom = box
        across, down = (view[2] - view[0]) / self.size[1], (view[3] - view[1]) / self.size[0]
        return (view[0] + left * across, view[1] + top * down, view[0] + right * across, view[1] + bottom * down)


def receptive_fields(model: Model, layers: list[str]) -> dict[str, ReceptiveFields]:
    """The layers' receptive fields at the model's own input size, found by sending a marker through the network.

    A row (then a column) of the input is set to NaN, which every operation that reads it passes on, whatever the
    weights; where it comes out, the map depends on that row. Structural, then: what can reach a position, of which much
    less may matter. It takes as many forward passes as the input has rows and columns, or four where every position
    depends on everything; on the CPU, where a convolution does not smear NaN over neighbouring results.
    """
    network = cpu_copy(model.network)
    height, width = model.preprocess.size
    down = _reached(model, network, layers, height, 2)
    across = _reached(model, network, layers, width, 3)
    return {
        layer: ReceptiveFields(_extent(down[layer][0]), _extent(across[layer][1]), (height, width)) for layer in layers
    }


def _reached(
    model: Model, network: torch.nn.Module, layers: list[str], length: int, dimension: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Layer -> which rows (length, map rows) and columns (length, map columns) each marked input line reaches.

    The lines between are not marked where those at both edges reach all: a field goes from the first to the last.
    """
    size = _narrow(model, network, layers, dimension)
    edges = _marked(model, network, layers, size, [0, length - 1], dimension)
    if all(reached[dimension - 2].all() for reached in edges.values()):
        return {layer: (_spaced(rows, length), _spaced(columns, length)) for layer, (rows, columns) in edges.items()}
    return _marked(model, network, layers, size, range(length), dimension)


def _spaced(edges: Tensor, length: int) -> Tensor:
    """What the first and the last line reach, with nothing said of those between."""
    return torch.cat([edges[:1], edges.new_zeros(length - 2, edges.shape[1]), edges[1:]])


def _marked(
    model: Model,
    network: torch.nn.Module,
    layers: list[str],
    size: tuple[int, int],
    marked: Sequence[int],
    dimension: int,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Layer -> which rows (lines, map rows) and columns (lines, map columns) each of some marked lines reaches."""
    grey = torch.zeros(1, model.preprocess.channels, *size)
    found: dict[str, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in layers}
    for start in range(0, len(marked), _BATCH):
        lines = marked[start : start + _BATCH]
        inputs = grey.repeat(len(lines), 1, 1, 1)
        for image, line in enumerate(lines):
            inputs[image].select(dimension - 1, line).fill_(torch.nan)
        with torch.inference_mode():
            outputs = outputs_at(network, inputs, layers)
        for layer, output in outputs.items():
            layout = model.layouts.of(network, layer, size=size, beside=layers)
            reached = layout.maps(output).isnan().any(1)
            found[layer].append((reached.any(2), reached.any(1)))
    return {
        layer: (torch.cat([rows for rows, _ in parts]), torch.cat([columns for _, columns in parts]))
        for layer, parts in found.items()
    }


def _narrow(model: Model, network: torch.nn.Module, layers: list[str], dimension: int) -> tuple[int, int]:
    """The input's size, cut to a strip along the dimension that is marked where the network takes one: much less work.

    What a row of the map depends on does not hang on how wide the image is.
    """
    height, width = model.preprocess.size
    strip = (height, min(width, _STRIP)) if dimension == 2 else (min(height, _STRIP), width)
    try:
        with torch.inference_mode():
            outputs_at(network, torch.zeros(2, model.preprocess.channels, *strip), layers)
        for layer in layers:
            model.layouts.of(network, layer, size=strip, beside=layers)
    except (RuntimeError, AssertionError, ValueError):
        return (height, width)
    return strip


def _extent(reached: Tensor) -> Tensor:
    """(positions, 2) the first marked line that reaches each, and the one behind the last; 0, 0 where none does."""
    any_line = reached.any(0)
    first = reached.int().argmax(0)
    behind = len(reached) - reached.flip(0).int().argmax(0)
    return torch.stack([torch.where(any_line, first, 0), torch.where(any_line, behind, 0)], 1)


def effective_size(model: Model, layer: str, images: Tensor, *, seed: int = 0) -> tuple[float, float]:
    """(height, width) in pixels of the input within which lies what moves the middle of the layer's map.

    The energy of the gradient of a random direction at the middle position, averaged over images (n, channels, h, w) in
    [0, 1] of the model's input size: the middle nine tenths of it along each side. Luo et al. 2016, "Understanding the
    Effective Receptive Field in Deep Convolutional Neural Networks".
    """
    trunk = Trunk(model, [layer])
    energy = torch.zeros(images.shape[-2:])
    generator = torch.Generator().manual_seed(seed)
    for image in images:
        # Whatever the caller has switched off.
        with torch.inference_mode(False), torch.enable_grad():
            seen = image[None].clone().to(trunk.device).requires_grad_()
            maps = trunk(seen)[layer]
            middle = maps[0, :, maps.shape[2] // 2, maps.shape[3] // 2]
            moved = (middle * torch.randn(len(middle), generator=generator).to(middle)).sum()
            if moved.requires_grad:  # else its forward lets no gradient through, and all of the input may move it
                moved.backward()  # type: ignore[no-untyped-call]
        own = torch.zeros(1) if seen.grad is None else seen.grad[0].square().sum(0).cpu()
        if own.isfinite().all() and own.sum() > 0:
            energy += own / own.sum()
    return (_spread(energy.sum(1)), _spread(energy.sum(0)))


def _middle(fields: Tensor, place: int, length: int) -> float:
    """The middle of a position's field, as those positions have it that no edge cuts off, evenly spaced.

    Where an edge cuts off all of them, the map is taken to cover the input.
    """
    whole = ((fields[:, 0] > 0) & (fields[:, 1] < length)).nonzero()[:, 0]
    if not len(whole):
        return (place + 0.5) / len(fields) * length
    first, last = int(whole[0]), int(whole[-1])
    step = float(fields[last, 0] - fields[first, 0]) / (last - first) if last > first else length / len(fields)
    return float(fields[first].sum()) / 2 + (place - first) * step


def _spread(profile: Tensor) -> float:
    """Length between the points that leave out `_OUTSIDE` of the profile, half at either end."""
    total = profile.sum()
    if total <= 0:
        return float(len(profile))
    share = profile.cumsum(0) / total
    first, last = (int((share < level).sum()) for level in (_OUTSIDE / 2, 1 - _OUTSIDE / 2))
    return float(min(last, len(profile) - 1) - first + 1)
