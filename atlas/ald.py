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
    every = checked.reshape(1, -1)
    return Fit(_line(checked), _line(-checked), (checked == 0).sum(1), _line(every), _line(-every))


def _line(weights: Weights) -> Line:
    """The lines of the positive weights of every class."""
    ordered = np.sort(weights, axis=1)
    positive = ordered > 0
    n = positive.sum(1)
    # The positive ones stand last, in rising order.
    rank = np.arange(ordered.shape[1]) - (ordered.shape[1] - n)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        x = np.where(positive, rank / n[:, None], 0)
        t = np.where(positive, np.log(np.where(positive, ordered, 1)), 0)
        x_mean, t_mean = (n - 1) / (2 * n), t.sum(1) / n
        dx, dt = (np.where(positive, values - mean[:, None], 0) for values, mean in ((x, x_mean), (t, t_mean)))
        slope = (dx * dt).sum(1) / (dx * dx).sum(1)
        spread = (dt * dt).sum(1)
        intercept = t_mean - slope * x_mean
        left = (np.where(positive, t - slope[:, None] * x - intercept[:, None], 0) ** 2).sum(1)
        r2 = 1 - left / spread
    known = (n >= 3) & (spread > 1e-18)
    slope, intercept, r2 = (np.where(known, values, np.nan) for values in (slope, intercept, r2))
    return Line(slope, intercept, r2, n)
