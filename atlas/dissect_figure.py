"""The figure of a dissection: a row for each input channel, a column for each step from the input to the output."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from featviz.explain.dissection import Dissection
from featviz.network.bands import band_name
from featviz.network.models import Model
from search.images.blank import blank_figure

from .figure import DPI, INK, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = ("input x", "what it is", "channel j", "weights w", "contribution a = x * w", "running sum c", "output y")
_WIDTHS = (110, 150, 66, 80, 110, 110, 110)
_TILE, _GAP, _MARGIN, _HEAD, _BAR = 110, 16, 24, 104, 64
_COLORS = ("red", "green", "blue")


def describe(found: Dissection, number: int, model: Model) -> str:
    """An input channel in words: a colour of the image, else how much of the map it is active on, and how strongly."""
    values, channel = found.inputs[number], int(found.channels[number])
    how = model.preprocess
    first = len(found.channels) == how.channels and values.shape == how.size
    if first and (how.bands or how.channels >= 3):
        names = how.bands or (_COLORS if how.channels == 3 else ())
        return f"{names[channel] if names else band_name(how, channel)} of the image"
    active = float((values > 0).float().mean())
    return f"mean {float(values.mean()):.3g}, most {float(values.max()):.3g}, above 0 on {active:.0%}"


def dissection_figure(found: Dissection, model: Model, *, rows: int, title: str) -> Figure:
    """The first rows of a dissection: maps, weights and sums, one colour scale for each column, red above zero."""
    shown = min(rows, len(found.channels))
    width = 2 * _MARGIN + sum(_WIDTHS) + _GAP * (len(_WIDTHS) - 1)
    height = _HEAD + shown * (_TILE + _GAP) + _BAR
    figure = blank_figure((width / DPI, height / DPI), color=PAPER, dpi=DPI)
    figure.text(_MARGIN / width, 1 - 26 / height, title, fontsize=13, color=INK, va="center", parse_math=False)
    lefts = [_MARGIN + sum(_WIDTHS[:number]) + number * _GAP for number in range(len(_WIDTHS))]
    for left, heading in zip(lefts, _COLUMNS, strict=True):
        lines = "\n".join(textwrap.wrap(heading, 15))
        figure.text(left / width, 1 - (_HEAD - 10) / height, lines, fontsize=9.5, color=INK, va="bottom", weight="bold")
    sums = found.running_sums()
    scales = {
        0: found.inputs[:shown],
        3: found.weights[:shown],
        4: found.contributions[:shown],
        5: sums,
        6: found.output,
    }
    limits = {column: float(values.abs().max()) or 1.0 for column, values in scales.items()}

    def place(column: int, row: int) -> Axes:
        top = _HEAD + row * (_TILE + _GAP)
        side = min(_TILE, _WIDTHS[column])
        return figure.add_axes((lefts[column] / width, 1 - (top + side) / height, side / width, side / height))

    def said(column: int, row: int, text: str, size: float = 8.0) -> None:
        top = _HEAD + row * (_TILE + _GAP)
        lines = "\n".join(textwrap.wrap(text, 24))
        figure.text(lefts[column] / width, 1 - (top + 8) / height, lines, fontsize=size, color=INK, va="top")

    for row in range(shown):
        for column, values in ((0, found.inputs), (3, found.weights), (4, found.contributions), (5, sums)):
            _map(place(column, row), values[row], limits[column])
        said(1, row, describe(found, row, model))
        said(2, row, f"{int(found.channels[row])}\n{float(found.at_place[row]):+.3g}", 9.5)
    _map(place(6, 0), found.output, limits[6])
    rest = len(found.channels) - shown
    note = f"{rest} more channels are not shown; the last running sum of all is the output. " if rest else ""
    note += (
        f"Under j: what it adds where the output is the largest. Bias {found.bias:.3g}. Scales, red to blue: "
        + ", ".join(f"{_COLUMNS[column].split(' = ')[0]} ±{limit:.3g}" for column, limit in limits.items())
    )
    figure.text(
        _MARGIN / width, (_BAR - 8) / height, "\n".join(textwrap.wrap(note, 118)), fontsize=8, color=INK, va="top"
    )
    return figure


def _map(axes: Axes, values: Tensor, limit: float) -> None:
    axes.imshow(np.asarray(values), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#00000022")
