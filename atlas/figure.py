"""Matplotlib figures: the atlas as one picture, superstimuli on a contact sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from PIL import Image

from featviz.certificate import Certificate

from .grid import Cell

Bytes = NDArray[np.uint8]

DPI = 100
INK, PAPER = "#1b1b1f", "#ffffff"
# No icon is drawn smaller than this share of its cell's side: below it nothing can be recognised.
SMALLEST_SIDE = 0.35
# Pictures on one contact sheet: no figure may be higher than 65,536 pixels, and nobody reads further.
PER_SHEET = 400


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


def atlas_figure(
    cells: Sequence[Cell],
    icons: Bytes,
    level: int,
    *,
    title: str,
    caption: str,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """The mosaic of a level, pixel for pixel, under a title and over a caption.

    labels: what is written into cells, by their keys, as far as no label lies over another.
    """
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
    _write_labels(figure, axes, [cell for cell in cells if cell.level == level], labels or {}, level, 7 * unit)
    figure.text(margin / total[0], 1 - 0.42 * head / total[1], title, fontsize=15 * unit, color=INK, va="center")
    figure.text(
        margin / total[0], 0.5 * foot / total[1], caption, fontsize=8.5 * unit, color=INK, alpha=0.75, va="center"
    )
    return figure


def _write_labels(
    figure: Figure, axes: Axes, cells: Sequence[Cell], labels: Mapping[str, str], level: int, size: float
) -> None:
    """Labels at the lower left of their cells, those of the fullest cells first; none over another, none outside."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]  # the canvas is Agg's
    frame = axes.get_window_extent(renderer)
    written: list[Bbox] = []
    for cell in sorted(cells, key=lambda cell: (-cell.count, cell.row, cell.col)):
        if cell.key not in labels:
            continue
        text = axes.text(
            (cell.col + 0.04) / level, (cell.row + 0.96) / level, labels[cell.key], fontsize=size, color="white",
            va="bottom", path_effects=[withStroke(linewidth=size / 3, foreground=(0, 0, 0, 0.65))],
        )  # fmt: skip
        box = text.get_window_extent(renderer).padded(size / 3)
        if box.x1 > frame.x1 or any(box.overlaps(other) for other in written):
            text.remove()
        else:
            written.append(box)


def superstimuli_figure(
    folder: Path, certificates: Sequence[Certificate], *, title: str, columns: int = 8, tile: int = 160
) -> Figure:
    """A contact sheet: every picture of the folder over its unit and what its certificate says in a line."""
    columns = min(len(certificates), columns)
    rows = -(-len(certificates) // columns)
    gap, caption, head, margin = 12, 46, 60, 24
    width = max(columns * (tile + gap) - gap + 2 * margin, 420)
    height = head + rows * (tile + caption + gap) + margin // 2
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    figure.text(margin / width, 1 - 0.5 * head / height, title, fontsize=13, color=INK, va="center")
    for number, entry in enumerate(certificates):
        with Image.open(folder / entry.file) as picture:
            pixels = np.asarray(picture.convert("RGBA"))
        left = margin + number % columns * (tile + gap)
        top = head + number // columns * (tile + caption + gap)
        axes = figure.add_axes((left / width, 1 - (top + tile) / height, tile / width, tile / height), frameon=False)
        axes.imshow(pixels, interpolation="antialiased")
        axes.set_axis_off()
        for line, (text, size) in enumerate(((_name(entry), 8.5), (_figures(entry), 7.0))):
            place = 1 - (top + tile + 13 + 15 * line) / height
            figure.text(left / width, place, text, fontsize=size, color=INK, va="center", alpha=1 - 0.25 * line)
    return figure


def _name(entry: Certificate) -> str:
    name = f"{'-' * entry.unit.startswith('-')}{entry.label}" if entry.label else entry.unit
    name += f" ({entry.facet})" * (entry.facet > 1)
    return name if len(name) <= 26 else f"{name[:12]}…{name[-12:]}"


def _figures(entry: Certificate) -> str:
    if entry.activation is None:
        return "not finite"
    parts = [f"act. {entry.activation:.3g}"]
    if entry.gain is not None:
        parts[0] = f"gain {entry.gain:.1f}"
    if entry.robustness is not None:
        parts.append(f"robust {entry.robustness:.0%}")
    if entry.rank is not None:
        parts.append(f"rank {entry.rank}")
    return "dead, " * bool(entry.dead) + ", ".join(parts)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG whose bytes depend on the picture alone."""
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})
