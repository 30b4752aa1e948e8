"""Watchers: what sees the loop's steps as they happen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Moment:
    """A step of the loop as a watcher sees it: `step` from 1, `attempt` from 0.

    `pictures`: which are being drawn; `scores`: (n,) on this step's transformed views; `images()`: (n, channels, h, w)
    uint8 as they are after the step.
    """

    step: int
    attempt: int
    pictures: tuple[int, ...]
    scores: Tensor
    images: Callable[[], Tensor]


class Snapshots:
    """A watcher that keeps pictures at the given steps: `images[picture, attempt, step]`, uint8 (channels, h, w)."""

    def __init__(self, steps: Sequence[int]) -> None:
        self.steps = frozenset(steps)
        self.images: dict[tuple[int, int, int], Tensor] = {}

    def __call__(self, moment: Moment) -> None:
        if moment.step in self.steps:
            for picture, image in zip(moment.pictures, moment.images(), strict=True):
                self.images[picture, moment.attempt, moment.step] = image
