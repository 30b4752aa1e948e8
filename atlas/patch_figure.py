"""Figures of a patch test: one view with the patch growing in it, and how often views flip over sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from search.images.blank import blank_figure

from .figure import DPI, INK, PAPER
from .patch_search import thumbnail
from .patches import Outcome, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SOURCE, TARGET, OTHER, NOISE, PHOTO = "#3f6fb5", "#c4453b", "#b8b8be", "#8a8a92", "#c98a2b"
_BARS = 5


@dataclass(frozen=True)
class Step:
    """One view (channels, h, w) with a patch of `size` in it (0: none), and the network's `probability` (classes,)."""

    size: float
    pixels: Tensor
    probability: Tensor


def strip_figure(
    steps: Sequence[Step], source: int, target: int, class_name: Callable[[int], str], *, title: str
) -> Figure:
    """The steps side by side, each over the bars of its five most probable classes."""
    side, gap, margin, head, bars = 220, 28, 24, 78, 130
    width, height = 2 * margin + len(steps) * (side + gap) - gap, head + side + bars + margin
    figure = blank_figure((width / DPI, height / DPI), color=PAPER, dpi=DPI)
    figure.text(margin / width, 1 - 26 / height, title, fontsize=14, color=INK, va="center")
    for number, step in enumerate(steps):
        left = margin + number * (side + gap)
        axes = figure.add_axes((left / width, 1 - (head + side) / height, side / width, side / height), frameon=False)
        axes.imshow(np.asarray(thumbnail(step.pixels)), interpolation="antialiased")
        axes.set_axis_off()
        axes.set_title(f"patch: {step.size:.0%} of the side" if step.size else "without", fontsize=10, color=INK, pad=5)
        below = figure.add_axes((left / width, 14 / height, side / width, (bars - 14) / height), frameon=False)
        _bars(below, step, source, target, class_name)
    return figure


def _bars(axes: Axes, step: Step, source: int, target: int, class_name: Callable[[int], str]) -> None:
    values, labels = step.probability.topk(min(_BARS, len(step.probability)))
    colors = [SOURCE if label == source else TARGET if label == target else OTHER for label in labels.tolist()]
    places = np.arange(len(labels))
    axes.barh(places, values.tolist(), color=colors, height=0.22)
    for place, label, value in zip(places, labels.tolist(), values.tolist(), strict=True):
        name = class_name(label)
        name = name if len(name) <= 24 else f"{name[:23]}…"
        axes.text(0, place - 0.2, name, fontsize=8.5, color=INK, va="bottom", parse_math=False)
        axes.text(1, place - 0.2, f"{value:.1%}", fontsize=8.5, color=INK, va="bottom", ha="right")
    axes.set(xlim=(0, 1), ylim=(_BARS - 0.5, -0.8))
    axes.set_axis_off()


def sweep_figure(
    own: Outcome,
    noise: Sequence[Outcome],
    photos: Sequence[Outcome],
    before: tuple[float, float],
    names: tuple[str, str],
) -> Figure:
    """Over sizes, in the best corner of each: left how many views flip, right the classes' mean probabilities.

    before: the mean probabilities of source and target without a patch.
    """
    figure = blank_figure((11, 4.4), color=PAPER, dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2)
    sizes, count = np.array(own.sizes), own.top1.shape[2]
    flips = own.to_target.sum(2).max(1)
    low, high = np.array([wilson(int(hits), count) for hits in flips]).T
    left.plot(sizes, flips / count, color=TARGET, marker="o", label="the patch, with a 95 % interval")
    left.fill_between(sizes, low, high, color=TARGET, alpha=0.15, linewidth=0)
    if noise:
        most = np.max([each.to_target.sum(2).max(1) for each in noise], 0)
        left.plot(
            sizes, most / count, color=NOISE, marker="s", linestyle="--", label=f"the best of {len(noise)} of noise"
        )
    if photos:
        each_size = np.array([each.to_target.sum(2).max(1) for each in photos]) / count
        left.plot(
            sizes, each_size.max(0), color=PHOTO, linestyle=":", label=f"the best of {len(photos)} random photographs"
        )
        left.scatter(np.tile(sizes, len(photos)), each_size.ravel(), color=PHOTO, marker="_", s=60, alpha=0.6)
    left.set(ylim=(-0.03, 1.03), xlabel="side of the patch, of the image's", ylabel=f"taken for {names[1]}")
    left.legend(frameon=False, fontsize=8.5)
    best = own.to_target.sum(2).argmax(1)
    mean = own.probability.mean(2)[np.arange(len(sizes)), best]
    over = np.concatenate([[0], sizes])
    for place, (name, color) in enumerate(zip(names, (SOURCE, TARGET), strict=True)):
        right.plot(over, np.concatenate([[before[place]], mean[:, place]]), color=color, marker="o", label=name)
    right.set(ylim=(-0.03, 1.03), xlabel="side of the patch, of the image's", ylabel="mean probability")
    right.legend(frameon=False, fontsize=8.5)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
