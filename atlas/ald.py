"""Asymmetric Laplace fits of the final layer's weights, by the lines through their sorted logarithms.

After arXiv 2205.11908: a class's positive weights, sorted, have logarithms that lie near a line over their rank. (Those
of any bell do: `atlas.distributions` asks which distribution fits best.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .tree import Weights, check

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """Least-squares lines through the sorted logarithms of one sign's weights, one for each class.

    log y_i = slope * i / n + intercept for i = 0 .. n - 1; `r2`: of the logarithms; `n` (classes,): how many weights.
    NaN where a class has fewer than three weights of the sign, or all of one size.
    """

    slope: Floats
    intercept: Floats
    r2: Floats
    n: NDArray[np.int64]

    @property
    def kappa(self) -> Floats:
        """The asymmetry that the line implies; NaN where slope <= exp(intercept), where it implies none."""
        height = np.exp(self.intercept)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(np.where(self.slope > height, height / (self.slope - height), np.nan))

    @property
    def scale(self) -> Floats:
        """The lambda that the line implies: slope * kappa."""
        return self.slope * self.kappa

    @property
    def mean(self) -> Floats:
        """The mean that the line implies: (1 - kappa^2) / (lambda * kappa)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return (1 - self.kappa**2) / (self.scale * self.kappa)


@dataclass(frozen=True)
class Fit:
    """The fits of every class: `positive` and `negative` weights' lines, and how many weights are exactly zero.

    `joint_positive`, `joint_negative`: the lines of all classes' weights at once.
    """

    positive: Line
    negative: Line
    zeros: NDArray[np.int64]
    joint_positive: Line
    joint_negative: Line


def fit(weights: NDArray[np.floating]) -> Fit:
    """Fit weights (classes, features), or those of one class (features,), by log-quantile regression.

    Zeros are left out and counted: their logarithm is none. Raises `UserError` for fewer than 40 features and for
    weights that are not finite.
    """
    checked = check(np.atleast_2d(np.asarray(weights)))
    ordered = np.sort(checked, axis=1)
    positive, joint_positive = _lines(ordered)
    negative, joint_negative = _lines(-ordered[:, ::-1])
    return Fit(positive, negative, (checked == 0).sum(1), joint_positive, joint_negative)


def _lines(ordered: Weights) -> tuple[Line, Line]:
    """The lines of the positive weights of every class, whose rows rise, and that of all of them at once."""
    positive = ordered > 0
    n = positive.sum(1)
    logs = np.log(ordered[positive])
    return _line(logs, n), _line(np.sort(logs), np.array([len(logs)]))


def _line(logs: Floats, n: NDArray[np.int64]) -> Line:
    """Lines through groups of rising numbers that stand one behind the other, n of each group."""
    group = np.repeat(np.arange(len(n)), n)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(group, logs, len(n)) / n
        away = logs - mean[group]
        rank = np.arange(len(logs)) - (n.cumsum() - n)[group]
        # x = rank / n has the mean (n - 1) / 2n and the sum of squares (n^2 - 1) / 12n about it.
        across = np.bincount(group, rank * away, len(n)) / n
        x_spread, spread = (n**2 - 1) / (12 * n), np.bincount(group, away * away, len(n))
        slope = across / x_spread
        intercept = mean - slope * (n - 1) / (2 * n)
        r2 = across**2 / (x_spread * spread)
    known = (n >= 3) & (spread > 1e-18)
    slope, intercept, r2 = (np.where(known, values, np.nan) for values in (slope, intercept, r2))
    return Line(slope, intercept, r2, n)
