"""Blank figures: matplotlib takes half a second to import, so nothing does before there is something to draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def blank_figure(
    size: tuple[float, float], *, color: str, dpi: int = 100, layout: Literal["constrained"] | None = None
) -> Figure:
    """A figure of `size` (width, height) in inches that Agg draws, its background of `color`.

    layout: `constrained` where matplotlib places its parts; None: who draws them does.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=dpi, facecolor=color, layout=layout)
    FigureCanvasAgg(figure)
    return figure
