"""Which class a unit prefers, and whether that is more than chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A class needs so many images before its mean says anything.
LEAST = 5
_SHUFFLES, _RESAMPLES = 1000, 1000


@dataclass(frozen=True)
class Selectivity:
    """How far a unit's mean over the images of its preferred class lies above that over the others.

    `label`: the class with the largest difference; `index`: that difference in standard deviations of all values;
    `interval`: 95 % of it under resampling the images; `chance`: 95 % of the largest difference of any class once
    labels are shuffled; `p`: how often shuffled labels do as well; `classes`: how many had images enough.
    """

    label: int
    index: float
    interval: tuple[float, float]
    chance: tuple[float, float]
    p: float
    classes: int


def class_selectivity(values: NDArray[np.float32], labels: NDArray[np.int64], *, seed: int = 0) -> Selectivity | None:
    """The selectivity of one unit's values (images,) for labels (images,), -1 where unknown.

    None where fewer than two classes have five images each, or the unit never varies. The largest of many classes'
    differences is large by chance alone; shuffled labels say how large. After Morcos et al. 2018, "On the importance of
    single directions for generalization", whose index takes activations above zero.
    """
    known = labels >= 0
    activations: NDArray[np.float64] = values[known].astype(np.float64)
    names, own = np.unique(labels[known], return_inverse=True)
    counts = np.bincount(own, minlength=len(names))
    if (counts >= LEAST).sum() < 2 or activations.std() == 0:
        return None
    spread = activations.std()
    rng = np.random.default_rng(seed)
    differences = _differences(activations, own, counts) / spread
    best = int(differences.argmax())
    shuffled = np.array(
        [_differences(activations, rng.permutation(own), counts).max() / spread for _ in range(_SHUFFLES)]
    )
    inside, outside = activations[own == best], activations[own != best]
    resampled = [
        (rng.choice(inside, len(inside)).mean() - rng.choice(outside, len(outside)).mean()) / spread
        for _ in range(_RESAMPLES)
    ]
    return Selectivity(
        int(names[best]),
        float(differences[best]),
        _middle(np.array(resampled)),
        _middle(shuffled),
        float((1 + (shuffled >= differences[best]).sum()) / (1 + _SHUFFLES)),
        int((counts >= LEAST).sum()),
    )


def _differences(values: NDArray[np.float64], own: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each class's mean less that of all other images; minus infinity for classes with too few."""
    sums = np.bincount(own, weights=values, minlength=len(counts))
    inside = sums / np.maximum(counts, 1)
    outside = (values.sum() - sums) / np.maximum(len(values) - counts, 1)
    return np.where(counts >= LEAST, inside - outside, -np.inf)


def _middle(samples: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(samples, (0.025, 0.975))
    return float(low), float(high)
