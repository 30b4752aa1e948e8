"""Figures of the final layer's weights: the fit of a class, the whole layer, what the images say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from search.images.blank import blank_figure

from .ald import Floats, Line
from .distributions import FITS, cumulative
from .hypothesis import Contrast, Evidence, Pruning
from .weights import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET = "#1b1b1f", "#6a6a72"
COLORS = {"normal": "#2f6fb3", "laplace": "#8a63b8", "asymmetric laplace": "#c0482f", "student t": "#3d8f5f"}
PLUS, MINUS = "#2f6fb3", "#c0482f"


def class_figure(found: Study, label: int) -> Figure:
    """A class's weights: both lines as published, the four distributions' densities, a Q-Q plot of each."""
    figure, axes = _panels(f"{found.name(label)}: {found.weights.shape[1]} weights of {found.model.name}")
    _line(axes[0], found.fit.positive, found.weights[label], label, "positive", PLUS)
    _line(axes[1], found.fit.negative, -found.weights[label], label, "negative", MINUS)
    _densities(axes[2], found, label)
    _quantiles(axes[3], found, label)
    return figure


def layer_figure(found: Study) -> Figure:
    """All classes: slopes and intercepts, R2, who fits best, how far from it."""
    figure, axes = _panels(f"{found.model.name}, {found.classifier.name}: {len(found.weights)} classes")
    for line, name, color in ((found.fit.positive, "positive", PLUS), (found.fit.negative, "negative", MINUS)):
        known = np.isfinite(line.slope)
        axes[0].scatter(line.slope[known], line.intercept[known], s=7, color=color, alpha=0.5, label=name, linewidths=0)
        if known.sum() > 2 and np.ptp(line.slope[known]) > 0:
            slope, intercept = np.polyfit(line.slope[known], line.intercept[known], 1)
            ends = np.array([line.slope[known].min(), line.slope[known].max()])
            axes[0].plot(ends, slope * ends + intercept, color=color, linewidth=1.2)
        axes[1].hist(
            line.r2[known], bins=40, color=color, alpha=0.6, label=f"{name}, mean {np.mean(line.r2[known]):.3f}"
        )
    _titled(axes[0], "lines through the sorted logarithms", "slope", "intercept")
    _titled(axes[1], "their R2", "R2", "classes")
    counts = [int((found.winner == name).sum()) for name in FITS]
    bars = axes[2].bar(range(4), counts, color=[COLORS[name] for name in FITS])
    axes[2].bar_label(bars, fontsize=9)
    axes[2].set_xticks(range(4), list(FITS), fontsize=9)
    _titled(axes[2], "which distribution fits best (BIC)", "", "classes")
    for name in FITS:
        gap = found.column("bic", name) - found.column("bic", "normal")
        if name != "normal" and np.isfinite(gap).any():
            axes[3].hist(np.clip(gap[np.isfinite(gap)], -150, 150), bins=60, color=COLORS[name], alpha=0.55, label=name)
    axes[3].axvline(0, color=INK, linewidth=1)
    _titled(axes[3], "BIC beyond the normal's; left of 0 it fits better", "difference (cut off at 150)", "classes")
    for place in (0, 1, 3):
        axes[place].legend(fontsize=8.5, frameon=False)
    return figure


def evidence_figure(evidence: Sequence[Evidence], pruning: Pruning) -> Figure:
    """Terminal features beside their controls on the images, and what pruning costs."""
    figure, axes = _panels("what the images say")
    measures = (
        ("firing", "activation on the class's images", "standard deviations above the mean"),
        ("drop", "set to their mean: the class's logit falls by", "logit"),
        ("lost", "and images are no longer put first", "share"),
    )
    for place, (measure, title, unit) in enumerate(measures):
        for number, each in enumerate(evidence):
            _bars(axes[place], getattr(each, measure), number)
        axes[place].set_xticks(range(len(evidence)), [each.side for each in evidence])
        axes[place].axhline(0, color=INK, linewidth=0.8)
        _titled(axes[place], title, "", unit)
    axes[0].legend(fontsize=8.5, frameon=False)
    for name, values in pruning.accuracy.items():
        axes[3].plot(pruning.fractions, values, marker="o", markersize=3, label=name)
    axes[3].legend(fontsize=8.5, frameon=False)
    _titled(axes[3], "accuracy once weights are pruned by", "fraction of every class's weights", "accuracy")
    return figure


def _bars(axes: Axes, contrast: Contrast, place: int) -> None:
    groups = (("terminal", "#2f6fb3"), ("next", "#8fb4dc"), ("matched", "#b9b9c2"), ("random", "#dedee4"))
    words = {
        "terminal": "terminal features",
        "next": "the next by weight",
        "matched": "weights as large, other sign",
        "random": "any others",
    }
    for number, (name, color) in enumerate(groups):
        estimate = getattr(contrast, name)
        ends = [[estimate.mean - estimate.low], [estimate.high - estimate.mean]]
        x = place + (number - 1.5) * 0.2
        label = words[name] if place == 0 else None
        axes.bar(x, estimate.mean, 0.18, yerr=ends, color=color, ecolor=INK, capsize=3, label=label)


def _line(axes: Axes, line: Line, signed: Floats, label: int, name: str, color: str) -> None:
    values = np.log(np.sort(signed[signed > 0]))
    x = np.arange(len(values)) / max(1, len(values))
    axes.plot(x, values, ".", color=color, markersize=3)
    if np.isfinite(line.slope[label]):
        axes.plot(x, line.slope[label] * x + line.intercept[label], color=INK, linewidth=1.2)
        _titled(axes, f"{name} weights, R2 = {line.r2[label]:.3f}", "rank / n", "log weight")
    else:
        _titled(axes, f"{name} weights: {line.n[label]}, no line", "rank / n", "log weight")


def _densities(axes: Axes, found: Study, label: int) -> None:
    own = found.weights[label][found.weights[label] != 0]
    if not found.fitted(label):
        return _titled(axes, "the weights do not vary", "weight", "density")
    axes.hist(own, bins=60, density=True, color="#dedee4")
    x = np.linspace(own.min(), own.max(), 600)
    for name, fitted in found.fitted(label).items():
        height = np.diff(cumulative(fitted, x[None])[0]) / np.diff(x)
        text = f"{name}, log-likelihood {fitted.log_likelihood[0]:.1f}"
        axes.plot(x[1:], height, color=COLORS[name], linewidth=1.4, label=text)
    axes.legend(fontsize=8, frameon=False)
    return _titled(axes, f"best by BIC: {found.winner[label] or 'none'}", "weight", "density")


def _quantiles(axes: Axes, found: Study, label: int) -> None:
    """Found against expected quantiles of each distribution."""
    if not found.fitted(label):
        return axes.set_axis_off()
    own = np.sort(found.weights[label][found.weights[label] != 0])
    middle = (np.arange(len(own)) + 0.5) / len(own)
    for name, fitted in found.fitted(label).items():
        spread = own[-1] - own[0]
        grid = np.linspace(own[0] - spread, own[-1] + spread, 6000)
        expected = np.interp(middle, cumulative(fitted, grid[None])[0], grid)
        axes.plot(expected, own, ".", markersize=2.5, color=COLORS[name])
    ends = [own[0], own[-1]]
    axes.plot(ends, ends, color=INK, linewidth=0.8)
    return _titled(axes, "Q-Q: on the line, the distribution is right", "quantile expected", "quantile found")


def _titled(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10.5, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8.5)


def _panels(title: str) -> tuple[Figure, list[Axes]]:
    """Four panels in two rows."""
    figure = blank_figure((11, 8.4), color="white", layout="constrained")
    figure.suptitle(title, fontsize=14, color=INK)
    return figure, list(figure.subplots(2, 2).flat)
