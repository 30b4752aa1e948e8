"""A class's tree as a picture: SVG for the page, matplotlib for the PNG."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from search.images.blank import blank_figure

from .tree import Node

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, QUIET, PLUS, MINUS = "#1b1b1f", "#6a6a72", "#2f6fb3", "#c0482f"
# Pixels of a node's picture, and the room for it and its two lines of text.
_SIDE, _WIDTH, _HEIGHT = 150, 176, 224


@dataclass(frozen=True, eq=False)
class Shown:
    """A node as it is drawn: `picture` (h, w, 3) uint8 and two lines below it."""

    node: Node
    picture: NDArray[np.uint8]
    lines: tuple[str, str]


def weights_shown(tree: Node, weights: NDArray[np.float64]) -> list[Shown]:
    """Nodes of a class without an image: the histogram of all its weights, the node's own in colour."""
    edges = np.linspace(weights.min(), weights.max(), 51)
    return [
        Shown(
            node,
            _histogram(weights, weights[list(node.members)], edges, node.path),
            (
                f"{short(node.path)}  {len(node.members)} features",
                f"{weights[list(node.members)].min():+.3f} to {weights[list(node.members)].max():+.3f}",
            ),
        )
        for node in tree
    ]


def short(path: str) -> str:
    """A path as the author writes it: +3 for +++; a mixed one as it is."""
    if not path:
        return "all"
    return f"{path[0]}{len(path)}" if len(set(path)) == 1 else path


def tree_svg(shown: Sequence[Shown]) -> str:
    """The tree as SVG, pictures embedded."""
    places, width, height = _places([each.node for each in shown])
    parts = [_svg_edge(places, each.node) for each in shown]
    for each in shown:
        x, y = places[each.node.path]
        left = x - _SIDE / 2
        parts.append(
            f'<image x="{left:.0f}" y="{y:.0f}" width="{_SIDE}" height="{_SIDE}" href="{_png(each.picture)}"/>'
            f'<rect x="{left:.0f}" y="{y:.0f}" width="{_SIDE}" height="{_SIDE}" fill="none" '
            f'stroke="{_color(each.node)}" '
            f'stroke-width="{4 if each.node.terminal else 1.5}"/>'
            f'<text x="{x:.0f}" y="{y + _SIDE + 19:.0f}" class="a">{escape(each.lines[0])}</text>'
            f'<text x="{x:.0f}" y="{y + _SIDE + 37:.0f}" class="b">{escape(each.lines[1])}</text>'
        )
    return (
        f'<svg class="tree" viewBox="0 0 {width:.0f} {height:.0f}" xmlns="http://www.w3.org/2000/svg" '
        f'preserveAspectRatio="xMidYMin meet">{"".join(parts)}</svg>'
    )


def tree_figure(shown: Sequence[Shown], title: str) -> Figure:
    """The same tree for a PNG."""
    places, width, height = _places([each.node for each in shown])
    figure = blank_figure((width / 100, (height + 50) / 100), color="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, -50)
    axes.set_axis_off()
    axes.text(width / 2, -18, title, fontsize=15, color=INK, ha="center", va="center")
    for each in shown:
        x, y = places[each.node.path]
        for child in each.node.children:
            to = places[child.path]
            axes.plot([x, to[0]], [y + _SIDE + 44, to[1]], color=_color(child), linewidth=1.6)
        axes.imshow(each.picture, extent=(x - _SIDE / 2, x + _SIDE / 2, y + _SIDE, y), aspect="auto", zorder=2)
        width_of_edge = 3 if each.node.terminal else 1
        box = [x - _SIDE / 2, x + _SIDE / 2]
        axes.plot(
            [box[0], box[1], box[1], box[0], box[0]], [y, y, y + _SIDE, y + _SIDE, y], color=_color(each.node),
            linewidth=width_of_edge, zorder=3,
        )  # fmt: skip
        axes.text(x, y + _SIDE + 16, each.lines[0], fontsize=9.5, color=INK, ha="center", va="center")
        axes.text(x, y + _SIDE + 33, each.lines[1], fontsize=8.5, color=QUIET, ha="center", va="center")
    axes.set_xlim(0, width)
    axes.set_ylim(height, -50)
    return figure


def _places(nodes: Sequence[Node]) -> tuple[Mapping[str, tuple[float, float]], float, float]:
    """Path -> (middle, top) of each node in pixels, minuses to the left; and the whole's width and height."""
    places: dict[str, tuple[float, float]] = {}
    column = 0.0

    def put(node: Node) -> float:
        nonlocal column
        children = sorted(node.children, key=lambda child: child.path[-1] != "-")
        if children:
            middle = float(np.mean([put(child) for child in children]))
        else:
            middle, column = column, column + 1
        places[node.path] = ((middle + 0.5) * _WIDTH + 12, len(node.path) * _HEIGHT + 12)
        return middle

    put(nodes[0])
    if _is_two_chains(nodes):
        for path, (_, top) in places.items():
            side = 0.0 if not path else (1.0 if path[0] == "+" else -1.0)
            places[path] = (_WIDTH * (1.5 + side) + 12, top)
        column = 3
    depth = max(len(node.path) for node in nodes)
    return places, column * _WIDTH + 24, (depth + 1) * _HEIGHT + 12


def _is_two_chains(nodes: Sequence[Node]) -> bool:
    return all(len(set(node.path)) <= 1 for node in nodes)


def _svg_edge(places: Mapping[str, tuple[float, float]], node: Node) -> str:
    x, y = places[node.path]
    ends = ((child, places[child.path]) for child in node.children)
    return "".join(
        f'<line x1="{x:.0f}" y1="{y + _SIDE + 44:.0f}" x2="{to[0]:.0f}" y2="{to[1]:.0f}" stroke="{_color(child)}" '
        'stroke-width="2"/>'
        for child, to in ends
    )


def _color(node: Node) -> str:
    return {"": INK, "+": PLUS, "-": MINUS}[node.path[-1:]]


def _histogram(
    weights: NDArray[np.float64], own: NDArray[np.float64], edges: NDArray[np.float64], path: str
) -> NDArray[np.uint8]:
    """All weights in grey, a node's in colour, as high as their counts' square roots."""
    picture = np.full((_SIDE, _SIDE, 3), 255, np.uint8)
    tallest = np.sqrt(np.histogram(weights, edges)[0].max())
    bars: list[tuple[NDArray[np.float64], str]] = [(weights, "#d9d9de"), (own, INK if not path else _sign(path))]
    for values, color in bars:
        for place, count in enumerate(np.histogram(values, edges)[0]):
            height = round(float(np.sqrt(count)) / tallest * (_SIDE - 12))
            if height:
                picture[_SIDE - height :, place * 3 : place * 3 + 3] = _rgb(color)
    return picture


def _sign(path: str) -> str:
    return PLUS if path[-1] == "+" else MINUS


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[place : place + 2], 16) for place in (1, 3, 5))


def _png(picture: NDArray[np.uint8]) -> str:
    stream = BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
