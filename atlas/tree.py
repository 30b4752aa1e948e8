"""The recursive split of a class's weights: subtract the mean, part by sign, again and again; terminal neurons.

After arXiv 2205.11908. The pure chains +, ++, +++ ... and -, --, --- ... end in what it calls the discriminative and
the confusing features of a class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from featviz.errors import UserError

# A node with fewer members is not split.
LEAST = 20
# Fewer weights than this make no tree worth the name.
FEWEST = 40
# Weights this near to a mean, as a share of the largest weight, are equal to it: in which order numbers are added
# would decide otherwise.
_ROUNDING = 1e-12

Weights = NDArray[np.float64]
Sign = Literal["+", "-"]
PLUS: Sign = "+"
MINUS: Sign = "-"


@dataclass(frozen=True)
class Node:
    """Some of a class's features: `path`, the signs that lead to them ("" for all); `members`, in rising order."""

    path: str
    members: tuple[int, ...]
    children: tuple[Node, ...] = ()

    def __iter__(self) -> Iterator[Node]:
        """The node and all below it, a parent before its children."""
        yield self
        for child in self.children:
            yield from child

    @property
    def terminal(self) -> bool:
        """Whether it was split no further."""
        return not self.children


@dataclass(frozen=True)
class Terminals:
    """The ends of one pure chain, for every class: `members[k]` in rising order, `depth` (classes,) how many splits."""

    members: tuple[tuple[int, ...], ...]
    depth: NDArray[np.int64]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(classes,)"""
        return np.array([len(members) for members in self.members])


def split(weights: NDArray[np.floating], *, full: bool = False) -> Node:
    """The tree of one class's weights (features,): the two pure chains, or with `full` every branch.

    A node of at least 20 members has its own mean subtracted from its residuals; what is then 0 or more, up to
    rounding, goes to the child `+`, the rest to `-`. Raises `UserError` for fewer than 40 weights and for weights that
    are not finite.
    """
    checked = check(np.asarray(weights)[None])[0]
    return _grown("", np.arange(len(checked)), checked, full, _ROUNDING * float(np.abs(checked).max()))


def _grown(path: str, members: NDArray[np.int64], residual: Weights, full: bool, slack: float) -> Node:
    own = tuple(map(int, members))
    if len(members) < LEAST:
        return Node(path, own)
    residual = residual - residual.mean()
    parts = {"+": residual >= -slack, "-": residual < -slack}
    if not parts["-"].any():  # all alike: a split would go on for ever
        return Node(path, own)
    signs = [sign for sign in parts if full or set(path) <= {sign}]
    children = tuple(_grown(path + sign, members[parts[sign]], residual[parts[sign]], full, slack) for sign in signs)
    return Node(path, own, children)


def terminals(weights: NDArray[np.floating], sign: Sign) -> Terminals:
    """The ends of one pure chain of every class at once, for weights (classes, features); as `split` finds them.

    Subtracting means again and again and keeping what is 0 or more keeps what is at or above the mean of what was kept
    before: the end of the sorted row from some place on.
    """
    checked = check(weights)
    ordered = np.sort(checked, axis=1)
    classes, features = ordered.shape
    sums = np.concatenate([np.zeros((classes, 1)), ordered.cumsum(1)], 1)
    first, behind = np.zeros(classes, dtype=np.int64), np.full(classes, features)
    depth = np.zeros(classes, dtype=np.int64)
    active = np.arange(classes)
    slack = _ROUNDING * np.abs(checked).max(1)
    while len(active):
        low, high = first[active], behind[active]
        mean = (sums[active, high] - sums[active, low]) / (high - low)
        place = _first_at_least(ordered, active, mean - slack[active])
        go_on = (high - low >= LEAST) & (place > low)
        if sign == PLUS:
            first[active] = np.where(go_on, place, low)
        else:
            behind[active] = np.where(go_on, place, high)
        depth[active] += go_on
        active = active[go_on]
    rows = np.arange(classes)
    inside = checked >= ordered[rows, first][:, None]
    if sign == MINUS:
        inside = checked <= ordered[rows, behind - 1][:, None]
    return Terminals(tuple(tuple(np.flatnonzero(row).tolist()) for row in inside), depth)


def _first_at_least(ordered: Weights, rows: NDArray[np.int64], values: Weights) -> NDArray[np.int64]:
    """In each of some rising rows, the first place whose number is at least the row's value: all halved at once."""
    low, high = np.zeros(len(rows), dtype=np.int64), np.full(len(rows), ordered.shape[1])
    while (low < high).any():
        middle = (low + high) // 2
        below = ordered[rows, np.minimum(middle, ordered.shape[1] - 1)] < values
        open_ = low < high
        low, high = np.where(open_ & below, middle + 1, low), np.where(open_ & ~below, middle, high)
    return low


def stability(weights: NDArray[np.floating], sign: Sign, noise: float, *, seed: int = 0) -> NDArray[np.float64]:
    """(classes,) how much of the terminal set stays when the weights get a little noise: shared over all members.

    noise: its standard deviation as a share of each class's own.
    """
    checked = check(weights)
    spread = checked.std(1, keepdims=True)
    noisy = checked + np.random.default_rng(seed).normal(size=checked.shape) * spread * noise
    pairs = zip(terminals(checked, sign).members, terminals(noisy, sign).members, strict=True)
    return np.array([len(set(a) & set(b)) / max(1, len(set(a) | set(b))) for a, b in pairs])


def check(weights: NDArray[np.floating]) -> Weights:
    """The weights (classes, features) in float64; raises `UserError` for too few, or what is not finite."""
    found = np.asarray(weights, dtype=np.float64)
    if found.ndim != 2 or found.shape[1] < FEWEST:
        raise UserError(f"the split needs at least {FEWEST} features of a class; got weights of shape {found.shape}.")
    if not np.isfinite(found).all():
        bad = np.flatnonzero(~np.isfinite(found).all(1))
        raise UserError(f"the weights of {len(bad)} class(es) are not finite, the first of class {bad[0]}.")
    return found
