"""Ascent through activation functions that fall before they rise: GELU, SiLU, Mish, hard-swish and their like.

Left of its minimum (GELU -.75, SiLU -1.28, Mish -1.19, hard-swish -1.5) such a function grows towards 0 as what it is
given sinks. A unit that begins there is driven down for good by its own gradient, and its picture stays fog. What is
changed is the gradient of the one function that a climbed unit comes out of: a rule of `rectifiers` over the network
would bend what the functions before it send back, which is right as it is. So the function is found in the graph of the
pass that has just run, whatever it is called by: a module, a function, or written out as x * sigmoid(1.702 * x).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from ..network.rectifiers import rise
from ..network.trunk import Trunk

# What only moves, copies, scales or averages values: a unit read behind it is still the unit.
_PASSED = re.compile(
    r"(Clone|View|UnsafeView|ReshapeAlias|Permute|Transpose|T|Squeeze|Unsqueeze|Slice|Select|ToCopy|Alias|Expand|Split|"
    r"SplitWithSizes|Unbind|Mean|AvgPool2D|AdaptiveAvgPool2D)Backward\d*"
)
# One node of the graph each; as a function of somebody's own, by its name.
_FALLING = re.compile(r"(Gelu|Silu|Mish|Hardswish)Backward\d*|\w*(swish|silu|mish|gelu)\w*Backward", re.IGNORECASE)
_ELEMENTWISE = re.compile(
    r"(Mul|Div|Add|Sub|Rsub|Neg|Pow|Exp|Clone|ToCopy|Sigmoid|Tanh|Erf|Softplus|Hardtanh|Hardsigmoid|Clamp|ClampMin|Relu)"
    r"Backward\d*"
)
# What opens and shuts: x times one of these of x is a function that falls first; x times x is none.
_GATE = re.compile(r"(Sigmoid|Tanh|Erf|Hardtanh|Hardsigmoid|Clamp)Backward\d*")
_SCALED = ("MulBackward0", "DivBackward0", "CloneBackward0", "ToCopyBackward0")
# A gate written out has fewer steps; the limit ends the search in long graphs.
_DEEPEST = 16
# The slope of all of these where they are given 0.
_OPEN = 0.5
# A channel is what is climbed where it gets so much of the gradient that the layer gets.
_SHARE = 0.5

Edge = tuple[Node | None, int]


@dataclass
class Rise:
    """What `rising` does in the backward pass of one forward pass.

    `shut`: (n,) after it, the pictures whose unit was shut at every place, None before.
    """

    shut: Tensor | None = None


def rising(maps: Tensor) -> Rise | None:
    """Let the backward pass through maps (n, c, h, w) raise what their channels' activation function is given.

    Where a picture's loss falls with its channel and the channel gets most of the picture's gradient, the function's
    slope never counts as less than 0, and as at least a tenth while the channel is shut at every place; values and all
    other gradients stay as they are. None, and nothing is changed, where the maps do not come out of a function that
    falls before it rises.
    """
    found = None if maps.grad_fn is None else _function((maps.grad_fn, maps.output_nr))
    if found is None:
        return None
    channels = torch.arange(maps.shape[1], device=maps.device)[:, None, None] % 2 + 1.0
    edge = GradientEdge(found.node, 0)
    marks = _grad(maps, edge, channels.to(maps).expand_as(maps))
    slope = _grad(edge, GradientEdge(*found.source), torch.ones_like(marks)) * found.scale
    made, dimension = Rise(), _channel_dimension(marks)

    def hook(into: tuple[Tensor | None, ...], out: tuple[Tensor, ...]) -> tuple[Tensor | None, ...] | None:
        gradient = out[0]
        own = _climbed(gradient, dimension)
        opened = _over_places(slope >= _OPEN, dimension)
        made.shut = own.flatten(1).any(1) & ~(own & opened).flatten(1).any(1)
        changed, direct = list(into), into[found.place]
        if direct is None:
            return None
        changed[found.place] = torch.where(own, rise(gradient / found.scale, slope, opened) / found.factor, direct)
        for place, other in enumerate(into):
            if place != found.place and other is not None:
                changed[place] = torch.where(own, 0, other)
        return tuple(changed)

    found.node.register_hook(hook)
    return made


def falls(trunk: Trunk, layer: str, images: Tensor) -> bool:
    """Whether a layer of the trunk comes out of a function that falls before it rises; images (n, channels, h, w)."""
    with torch.inference_mode(False), torch.enable_grad():
        maps = trunk(images.clone().requires_grad_())[layer]
    return maps.grad_fn is not None and _function((maps.grad_fn, maps.output_nr)) is not None


@dataclass(frozen=True)
class _Function:
    """An activation function in the graph: its last `node`, whose input number `place` is `factor` times the `source`.

    Of a product of x and a gate, the other input is the gate, and `scale` the constant behind it, as in
    x * relu6(x + 3) / 6.
    """

    node: Node
    source: tuple[Node, int]
    place: int = 0
    factor: float | Tensor = 1.0
    scale: float = 1.0


def _function(edge: Edge) -> _Function | None:
    """The falling function that comes out at an edge of the graph, or None."""
    scaled = edge  # where the scalings that stand right behind the function end
    for _ in range(_DEEPEST):
        node = edge[0]
        if node is None:
            return None
        inputs = [each for each in node.next_functions if each[0] is not None]
        if _FALLING.fullmatch(node.name()) or getattr(node, "falls", False):
            return _Function(node, inputs[0]) if len(inputs) == 1 else None  # type: ignore[arg-type]
        if len(inputs) == 2:
            return _product(node, scaled)
        if len(inputs) != 1 or not (_PASSED.fullmatch(node.name()) or node.name() in _SCALED):
            return None
        edge = inputs[0]
        scaled = scaled if node.name() in _SCALED else edge
    return None


def _product(node: Node, scaled: Edge) -> _Function | None:
    """The product of x, or a multiple of it, and a gate of the same x."""
    if node.name() != "MulBackward0":
        return None
    for place, gate in ((0, node.next_functions[1]), (1, node.next_functions[0])):
        direct = node.next_functions[place]
        for source in _multiples(direct):
            if _made_of(gate, source) == (True, True):
                return _Function(node, source, place, _factor(direct, source), _scale(scaled, node))
    return None


def _multiples(edge: Edge) -> Iterator[tuple[Node, int]]:
    """The edge itself and those that it is a constant multiple of."""
    for _ in range(_DEEPEST):
        if edge[0] is None:
            return
        yield edge[0], edge[1]
        inputs = [each for each in edge[0].next_functions if each[0] is not None]
        if edge[0].name() not in _SCALED or len(inputs) != 1:
            return
        edge = inputs[0]


def _made_of(edge: Edge, source: tuple[Node, int], depth: int = 0) -> tuple[bool, bool]:
    """Whether an edge is made, value by value, of the source alone; and whether it went through a gate."""
    if edge == source:
        return True, False
    if edge[0] is None or depth > _DEEPEST or not _ELEMENTWISE.fullmatch(edge[0].name()):
        return False, False
    parts = [_made_of(each, source, depth + 1) for each in edge[0].next_functions if each[0] is not None]
    gated = bool(_GATE.fullmatch(edge[0].name())) or any(gate for _, gate in parts)
    return bool(parts) and all(made for made, _ in parts), gated


def _factor(direct: Edge, source: tuple[Node, int]) -> float | Tensor:
    if direct == source or direct[0] is None:
        return 1.0
    shape = direct[0]._input_metadata[direct[1]]
    one = torch.ones(shape.shape, dtype=shape.dtype, device=shape.device)
    return _grad(GradientEdge(direct[0], direct[1]), GradientEdge(*source), one)


def _scale(scaled: Edge, node: Node) -> float:
    """What a product is multiplied by right behind it, where that is one number; else 1: it is a weight of the next."""
    least, most = torch.as_tensor(_factor(scaled, (node, 0))).aminmax()
    return float(most) if 0 < least == most else 1.0


def _grad(output: Any, source: GradientEdge, values: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(output, source, values, retain_graph=True)
    return found.detach()


def _channel_dimension(marks: Tensor) -> int:
    """The dimension along which channels lie in the function's own output; marks: 1 and 2 in turn, 0 what is unread."""
    read = marks > 0
    for dimension in range(1, marks.dim()):
        highest = marks.amax(dimension)
        lowest = torch.where(read, marks, torch.inf).amin(dimension)
        if bool((highest > 1.9 * lowest).any()):
            return dimension
    return 1


def _over_places(there: Tensor, dimension: int) -> Tensor:
    """Whether it is so at any place of a picture's channel."""
    for other in range(1, there.dim()):
        there = there if other == dimension else there.any(other, keepdim=True)
    return there


def _climbed(gradient: Tensor, dimension: int) -> Tensor:
    """Where a loss's gradient wants more of a channel that gets at least half of what its picture's channels get."""
    others = [each for each in range(1, gradient.dim()) if each != dimension]
    size = gradient.abs().sum(others, keepdim=True) if others else gradient.abs()
    return (size >= _SHARE * size.sum(dimension, keepdim=True)) & (gradient < 0)
