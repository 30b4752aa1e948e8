"""How far the class that a cell's activations change most can be trusted, on activations that did not choose it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .grid import cell_numbers

Floats = NDArray[np.float32]
# A cell's class is right of an activation where it is one of so many that the activation changes most.
AMONG = 5
# How much of the way from chance to always right it has to come before a page lists classes.
WORTH_SAYING = 0.1


@dataclass(frozen=True)
class Speaking:
    """`held`: of `of` activations that did not choose their cell's class, the share of which it is right.

    `chance`: what any class would reach; `among`: of how many classes.
    """

    held: float
    of: int
    chance: float
    among: int = AMONG

    @property
    def worth_saying(self) -> bool:
        """Whether a page should list classes: whether that is clearly more than chance."""
        return self.held - self.chance >= WORTH_SAYING * (1 - self.chance)

    @property
    def told(self) -> str:
        """The measurement in words."""
        return (
            f"the class that half of a cell's images change most; of {self.of:,} activations of the other half, it is "
            f"one of the {self.among} that {self.held:.1%} change most (chance {self.chance:.1%})"
        )


def speaking(effects: Floats, xy: Floats, image: NDArray[np.int64], level: int) -> Speaking | None:
    """Measure it on the cells of a level: half of a cell's images choose the class, the others say whether it is right.

    effects: (n, classes); xy: (n, 2); image: (n,). None where no cell holds activations of two images.
    """
    classes = effects.shape[1]
    among = min(AMONG, classes - 1)
    numbers = cell_numbers(xy, level)
    order = np.argsort(numbers, kind="stable")
    right = of = 0
    for members in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
        own, places = np.unique(image[members], return_inverse=True)
        if len(own) < 2:
            continue
        chooses = places % 2 == 0
        best = int(effects[members[chooses]].mean(0, dtype=np.float64).argmax())
        held = effects[members[~chooses]]
        most = np.argpartition(-held, among - 1, axis=1)[:, :among]
        right += int((most == best).any(1).sum())
        of += len(held)
    return Speaking(right / of, of, among / classes, among) if of else None
