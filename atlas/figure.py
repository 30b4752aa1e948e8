"""What figures have in common, and superstimuli on a contact sheet."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from featviz.draw.certificate import Certificate
from search.images.blank import blank_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 100
INK, PAPER = "#1b1b1f", "#ffffff"
# Pictures on one contact sheet: no figure may be higher than 65,536 pixels, and nobody reads further.
PER_SHEET = 400


def superstimuli_figure(
    folder: Path, certificates: Sequence[Certificate], *, title: str, columns: int = 8, tile: int = 160
) -> Figure:
    """A contact sheet: every picture of the folder over its unit and what its certificate says in a line."""
    columns = min(len(certificates), columns)
    rows = -(-len(certificates) // columns)
    gap, caption, head, margin = 12, 46, 60, 24
    width = max(columns * (tile + gap) - gap + 2 * margin, 420)
    height = head + rows * (tile + caption + gap) + margin // 2
    figure = blank_figure((width / DPI, height / DPI), color=PAPER, dpi=DPI)
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
        parts.append(f"{entry.robustness:.0%} of clean")
    if entry.rank is not None:
        parts.append(f"rank {entry.rank}")
    return "dead, " * bool(entry.dead) + ", ".join(parts)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG whose bytes depend on the picture alone."""
    with warnings.catch_warnings():
        # That finding a place for a legend took a second, as it does for any figure on a busy machine.
        warnings.filterwarnings("ignore", message="Creating legend with loc")
        figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})
