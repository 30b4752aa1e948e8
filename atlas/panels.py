"""Grids of icons as figures: one atlas, or several side by side on one scale."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from search.images.blank import blank_figure

from .figure import DPI, INK, PAPER
from .grid import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

Bytes = NDArray[np.uint8]

# No icon is drawn smaller than this share of its cell's side: below it nothing can be recognised.
SMALLEST_SIDE = 0.35
# Of a tinted cell's side, what the icon takes at most; the colour shows around it.
_TINTED_SIDE = 0.84
# Red speaks for, blue against.
_TINTS = "RdBu_r"
# Pixels along a mosaic's side, beyond which its icons are made smaller: the sheet of the level holds them at full size.
_WIDEST = 4096
# Cells that are asked for room for a label.
_LABELLED = 1500
_MARGIN, _GAP, _HEAD, _HEADING, _FOOT, _ENDS, _BAR = 24, 36, 64, 30, 60, 24, 250


@dataclass(frozen=True)
class Panel:
    """The cells of one level with their pictures (cells, height, width, 3), and what is said of each.

    `heading`: what stands above; `labels`: cell key -> what is written into it, as far as no label lies over another;
    `regions`: (text, (x, y) of its middle in the unit square, its share of the map), written larger and before them;
    `tint`: cell key -> a number, shown as the colour around the icon; `opacity`: cell key -> how opaque, in [0, 1];
    `ends`: what the left and the right end mean, where the horizontal axis has a meaning with zero in the middle.
    """

    cells: Sequence[Cell]
    pictures: Bytes
    level: int
    heading: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    regions: Sequence[tuple[str, tuple[float, float], float]] = ()
    tint: Mapping[str, float] | None = None
    opacity: Mapping[str, float] | None = None
    ends: tuple[str, str] | None = None


def icon_sides(cells: Sequence[Cell]) -> NDArray[np.float64]:
    """Side of each icon as a share of its cell's: its area is proportional to the count, up to the average count.

    All cells of one level. Carter et al. 2019: cells with more than the average are drawn full.
    """
    counts = np.array([cell.count for cell in cells], dtype=np.float64)
    return np.sqrt(counts / max(counts.mean(), 1e-12)).clip(SMALLEST_SIDE, 1) if len(counts) else counts


def mosaic(panel: Panel, *, limit: float = 1.0) -> Bytes:
    """The pictures at their places on white, their area by count: RGB (level * height, level * width, 3).

    Where that were more than 4,096 pixels a side, every picture is smaller.

    limit: the size of a tint at either end of the scale.
    """
    height, width = panel.pictures.shape[1:3]
    whole = min(1.0, _WIDEST / (panel.level * max(height, width)))
    height, width = max(1, int(height * whole)), max(1, int(width * whole))
    canvas = Image.new("RGB", (panel.level * width, panel.level * height), PAPER)
    for cell, array, share in zip(panel.cells, panel.pictures, icon_sides(panel.cells), strict=True):
        left, top = cell.col * width, cell.row * height
        if panel.tint is not None:
            canvas.paste(_tint(panel.tint[cell.key], limit), (left, top, left + width, top + height))
            share *= _TINTED_SIDE
        size = (max(1, round(width * share)), max(1, round(height * share)))
        picture = Image.fromarray(array)
        if size != picture.size:
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        mask = None if panel.opacity is None else Image.new("L", size, round(255 * panel.opacity[cell.key]))
        canvas.paste(picture, (left + (width - size[0]) // 2, top + (height - size[1]) // 2), mask)
    return np.asarray(canvas)


def panels_figure(panels: Sequence[Panel], *, title: str, caption: str, tint: str = "") -> Figure:
    """The panels' mosaics side by side, pixel for pixel, under a title and over a caption.

    tint: what the colours mean; all panels share their scale, whose two ends are equally far from zero.
    """
    limit = _limit(panels)
    pictures = [mosaic(panel, limit=limit) for panel in panels]
    wide = sum(picture.shape[1] for picture in pictures) + _GAP * (len(pictures) - 1)
    high = max(picture.shape[0] for picture in pictures)
    # Text keeps its proportion to the picture up to a size that reads well on paper too.
    unit = float(np.clip(wide / 1000, 0.75, 1.6))
    head = round((_HEAD + _HEADING * any(panel.heading for panel in panels)) * unit)
    ends = round(_ENDS * unit) * any(panel.ends is not None for panel in panels)
    width = max(wide, 560) + 2 * _MARGIN
    caption = _wrapped(caption, width - 2 * _MARGIN - round(_BAR * unit) * bool(tint), 8.5 * unit)
    foot = round(_FOOT * unit) + ends + round(14 * unit * caption.count("\n"))
    height = high + head + foot
    figure = blank_figure((width / DPI, height / DPI), color=PAPER, dpi=DPI)
    left = (width - wide) // 2
    for panel, picture in zip(panels, pictures, strict=True):
        size = (picture.shape[1], picture.shape[0])
        axes = figure.add_axes(
            (left / width, 1 - (head + size[1]) / height, size[0] / width, size[1] / height), frameon=False
        )
        _draw(figure, axes, panel, picture, unit)
        left += size[0] + _GAP
    figure.text(_MARGIN / width, 1 - 0.55 * _HEAD * unit / height, title, fontsize=15 * unit, color=INK, va="center")
    low = 0.5 * (foot - ends) / height
    figure.text(_MARGIN / width, low, caption, fontsize=8.5 * unit, color=INK, alpha=0.75, va="center")
    if tint:
        _color_bar(figure, (width, height), limit, tint, unit)
    return figure


def _wrapped(text: str, width: float, size: float) -> str:
    """Lines broken to so many pixels in a font of so many points, whose letters are half as wide as high."""
    letters = max(20, int(width / (size * DPI / 72 * 0.56)))
    return "\n".join(textwrap.fill(line, letters) for line in text.split("\n"))


def _limit(panels: Sequence[Panel]) -> float:
    sizes = [abs(value) for panel in panels for value in (panel.tint or {}).values()]
    return max(sizes, default=0.0) or 1.0


def _tint(value: float, limit: float) -> tuple[int, int, int]:
    from matplotlib import colormaps

    red, green, blue = (round(255 * part) for part in colormaps[_TINTS](0.5 + 0.5 * value / limit)[:3])
    return (red, green, blue)


def _draw(figure: Figure, axes: Axes, panel: Panel, picture: Bytes, unit: float) -> None:
    axes.imshow(picture, interpolation="none", extent=(0, 1, 1, 0), aspect="auto")
    axes.set_axis_off()
    if panel.heading:
        axes.text(0, -0.012, panel.heading, fontsize=11 * unit, color=INK, va="bottom")
    if panel.ends is not None:
        axes.plot([0.5, 0.5], [0, 1], color=INK, linewidth=1, linestyle=(0, (1, 3)), alpha=0.6)
        for place, text, side in ((0.0, f"← {panel.ends[0]}", "left"), (1.0, f"{panel.ends[1]} →", "right")):
            axes.text(place, 1.012, text, fontsize=10 * unit, color=INK, va="top", ha=side)
        axes.set(xlim=(0, 1), ylim=(1, 0))
    _write_labels(figure, axes, panel, 7 * unit)


def _write_labels(figure: Figure, axes: Axes, panel: Panel, size: float) -> None:
    """Regions' names in their middles, the largest first, then cells' at their lower left, those of the fullest first.

    None over another, none outside.
    """
    from matplotlib.patheffects import withStroke

    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]  # the canvas is Agg's
    frame = axes.get_window_extent(renderer)
    written: list[Bbox] = []

    def write(text: str, place: tuple[float, float], size: float, **more: Any) -> None:
        label = axes.text(
            *place, text, fontsize=size, color="white", parse_math=False,
            path_effects=[withStroke(linewidth=size / 3, foreground=(0, 0, 0, 0.65))], **more,
        )  # fmt: skip
        bare = label.get_window_extent(renderer)
        box = bare.padded(size / 3)
        if bare.x0 < frame.x0 or box.x1 > frame.x1 or any(box.overlaps(other) for other in written):
            label.remove()
        else:
            written.append(box)

    for text, middle, share in sorted(panel.regions, key=lambda region: -region[2]):
        write(text, middle, size * (1.8 + 3 * min(share, 0.2)), va="center", ha="center", weight="bold")
    labelled = (cell for cell in panel.cells if cell.key in panel.labels)
    for cell in sorted(labelled, key=lambda cell: (-cell.count, cell.row, cell.col))[:_LABELLED]:
        place = ((cell.col + 0.04) / panel.level, (cell.row + 0.96) / panel.level)
        write(panel.labels[cell.key], place, size, va="bottom")


def _color_bar(figure: Figure, size: tuple[int, int], limit: float, label: str, unit: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    width, height = size
    wide, high = 220 * unit, 10 * unit
    axes = figure.add_axes(
        (1 - (1.6 * _MARGIN + wide) / width, 34 * unit / height, wide / width, high / height), frameon=False
    )
    bar = figure.colorbar(ScalarMappable(Normalize(-limit, limit), _TINTS), cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.set_ticks([-limit, 0, limit], labels=[f"{value:.2g}" for value in (-limit, 0, limit)])
    axes.tick_params(labelsize=8 * unit, length=0, pad=2)
    axes.set_title(label, fontsize=8.5 * unit, color=INK, pad=3, loc="right")
