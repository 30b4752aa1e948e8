"""Matplotlib figures: the atlas as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from .grid import Cell

Bytes = NDArray[np.uint8]

DPI = 100
INK, PAPER = "#1b1b1f", "#ffffff"
# No icon is drawn smaller than this share of its cell's side: below it nothing can be recognised.
SMALLEST_SIDE = 0.35


def icon_sides(cells: Sequence[Cell]) -> NDArray[np.float64]:
    """Side of each icon as a share of its cell's: its area is proportional to the count, up to the average count.

    All cells of one level. Carter et al. 2019: cells with more than the average are drawn full.
    """
    counts = np.array([cell.count for cell in cells], dtype=np.float64)
    return np.sqrt(counts / max(counts.mean(), 1e-12)).clip(SMALLEST_SIDE, 1) if len(counts) else counts


def mosaic(cells: Sequence[Cell], icons: Bytes, level: int) -> Bytes:
    """The icons of a level at their places on white, their area by count: RGB (level * icon, level * icon, 3)."""
    size = icons.shape[1]
    chosen = [number for number, cell in enumerate(cells) if cell.level == level]
    sides = icon_sides([cells[number] for number in chosen])
    canvas = Image.new("RGB", (level * size, level * size), PAPER)
    for number, share in zip(chosen, sides, strict=True):
        side = max(1, round(size * share))
        picture = Image.fromarray(icons[number])
        if side != size:
            picture = picture.resize((side, side), Image.Resampling.LANCZOS)
        corner = (size - side) // 2
        canvas.paste(picture, (cells[number].col * size + corner, cells[number].row * size + corner))
    return np.asarray(canvas)


def atlas_figure(cells: Sequence[Cell], icons: Bytes, level: int, *, title: str, caption: str) -> Figure:
    """The mosaic of a level, pixel for pixel, under a title and over a caption."""
    picture = mosaic(cells, icons, level)
    width = max(len(picture), 560)
    margin, head, foot = 24, 76, 56
    # Text keeps its proportion to the picture up to a size that reads well on paper too.
    unit = float(np.clip(width / 1000, 0.75, 1.6))
    head, foot = round(head * unit), round(foot * unit)
    total = (width + 2 * margin, len(picture) + head + foot)
    figure = Figure(figsize=(total[0] / DPI, total[1] / DPI), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    left = (total[0] - len(picture)) // 2
    axes = figure.add_axes(
        (left / total[0], foot / total[1], len(picture) / total[0], len(picture) / total[1]), frameon=False
    )
    axes.imshow(picture, interpolation="none", extent=(0, 1, 1, 0))
    axes.set_axis_off()
    figure.text(margin / total[0], 1 - 0.42 * head / total[1], title, fontsize=15 * unit, color=INK, va="center")
    figure.text(
        margin / total[0], 0.5 * foot / total[1], caption, fontsize=8.5 * unit, color=INK, alpha=0.75, va="center"
    )
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG whose bytes depend on the picture alone."""
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})
