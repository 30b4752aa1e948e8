"""Figures of an explained image: maps over it, and what their checks say."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from featviz.explain.attribution import METHODS, Attribution
from featviz.explain.band_evidence import BandEvidence
from featviz.explain.localisation import Box
from search.images.blank import blank_figure

from .figure import DPI, INK, PAPER
from .patch_search import thumbnail

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .explanation import Explanation

_SIDE, _ACROSS = 224, 4
# Of a map's sizes, those above this quantile are shown as strong as the largest: single pixels would hide the rest.
_QUANTILE = 0.995


def overlay(view: Tensor, found: Attribution, box: Box | None = None, *, side: int = _SIDE) -> Image.Image:
    """The image in grey with the map in colour over it, the more opaque the stronger.

    Viridis from weak to strong; of a map with a sign, red for the unit and blue against it.
    """
    from matplotlib import colormaps

    grey = np.asarray(thumbnail(view).convert("L").convert("RGB"), np.float64) / 255
    values = found.map.double().numpy()
    limit = float(np.quantile(np.abs(values), _QUANTILE)) or float(np.abs(values).max()) or 1.0
    share = np.clip(values / limit, -1, 1)
    colors = colormaps["RdBu_r"](share / 2 + 0.5) if found.signed else colormaps["viridis"](np.clip(share, 0, 1))
    strength = 0.85 * np.abs(share)[..., None] if found.signed else 0.25 + 0.6 * np.clip(share, 0, 1)[..., None]
    mixed = grey * (1 - strength) + colors[..., :3] * strength
    picture = Image.fromarray((mixed * 255).round().astype(np.uint8))
    if box is not None:
        ImageDraw.Draw(picture).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline="#ffd84d", width=2)
    return picture.resize((side, round(side * picture.height / picture.width)), Image.Resampling.BICUBIC)


def sheet_figure(made: Explanation, *, title: str) -> Figure:
    """The image and every map on it, each over what the method is and what is special about it."""
    tiles: list[tuple[str, str, NDArray[np.uint8]]] = [
        ("The image", _certainty(made), np.asarray(thumbnail(made.seen).resize((_SIDE, _SIDE)).convert("RGB")))
    ]
    for name, each in made.found.items():
        tiles.append((METHODS[name].title, each.map.note, np.asarray(overlay(made.seen, each.map, each.box))))
    rows, gap, head, below, margin = -(-len(tiles) // _ACROSS), 20, 64, 62, 24
    across = min(_ACROSS, len(tiles))
    width = max(2 * margin + across * (_SIDE + gap) - gap, 560)
    height = head + rows * (_SIDE + below) + margin // 2
    figure = blank_figure((width / DPI, height / DPI), color=PAPER, dpi=DPI)
    figure.text(margin / width, 1 - 28 / height, title, fontsize=14, color=INK, va="center", parse_math=False)
    for number, (heading, note, pixels) in enumerate(tiles):
        left, top = margin + number % _ACROSS * (_SIDE + gap), head + number // _ACROSS * (_SIDE + below)
        axes = figure.add_axes((left / width, 1 - (top + _SIDE) / height, _SIDE / width, _SIDE / height), frameon=False)
        axes.imshow(pixels, interpolation="antialiased")
        axes.set_axis_off()
        under = 1 - (top + _SIDE + 6) / height
        figure.text(left / width, under, heading, fontsize=10.5, color=INK, va="top", weight="bold")
        said = "\n".join(textwrap.wrap(note, 44)[:2])
        figure.text(left / width, under - 17 / height, said, fontsize=7.5, color=INK, alpha=0.75, va="top")
    return figure


def _certainty(made: Explanation) -> str:
    sure = "" if made.probability is None else f", probability {made.probability:.1%}"
    return f"{made.name}: activation {made.value:.3g}{sure}"


def curves_figure(made: Explanation) -> Figure:
    """Deletion and insertion, a line for each method, and where shuffled maps lie."""
    figure = blank_figure((11, 4.6), color=PAPER, dpi=DPI, layout="constrained")
    what = "activation" if made.probability is None else "probability"
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), ("deletion", "insertion"), strict=True):
        for number, (name, each) in enumerate(made.found.items()):
            curve = getattr(each, kind)
            style = "-" if number < 6 else "--"
            label = f"{METHODS[name].title} {curve.area:.2f} (shuffled {curve.by_chance:.2f})"
            axes.plot(curve.shares, curve.values, style, color=f"C{number % 10}", label=label, linewidth=1.6)
        axes.set_title(f"{kind}: area (of shuffled maps)", fontsize=10.5, color=INK, loc="left")
        axes.set_xlabel(f"share of the pixels that {'went' if kind == 'deletion' else 'came'}, most marked first")
        axes.legend(fontsize=7, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel(what)
    return figure


def bands_figure(bands: Sequence[BandEvidence]) -> Figure:
    """By how much the activation falls without each band, a bar for each, those below zero speak against."""
    figure = blank_figure((9, 0.9 + 0.3 * len(bands)), color=PAPER, dpi=DPI, layout="constrained")
    axes = figure.subplots()
    places = range(len(bands))
    axes.barh(places, [band.drop for band in bands], color="#3b6fb6", height=0.7)
    axes.set_yticks(places, [band.name for band in bands], parse_math=False)
    axes.invert_yaxis()
    axes.axvline(0, color=INK, linewidth=0.6)
    axes.set_xlabel("the activation falls by this much once the band is at the network's mean")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def likeness_figure(made: Explanation) -> Figure:
    """How alike each map stays as more and more of the network is random."""
    figure = blank_figure((9, 4.2), color=PAPER, dpi=DPI, layout="constrained")
    axes = figure.subplots()
    stages: tuple[str, ...] = ()
    for number, (name, each) in enumerate(made.found.items()):
        if each.randomisation is not None:
            stages = each.randomisation.stages
            values = (1.0, *each.randomisation.likeness)
            style = "-" if number < 6 else "--"
            axes.plot(values, style, marker=".", color=f"C{number % 10}", label=METHODS[name].title, linewidth=1.6)
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.set_xticks(range(len(stages) + 1), ["learned", *(f"to {stage}" for stage in stages)], rotation=25, ha="right")
    axes.set_ylabel("rank correlation with the real map")
    axes.set_title("Weights become random from the output on", fontsize=10.5, color=INK, loc="left")
    axes.legend(fontsize=7.5, frameon=False, ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
