"""Units and photographs' names -> a name for each unit with its evidence, or none.

A name is chosen on some of the photographs and checked on others. What a unit does to those others says how often a
photograph of that name excites it more than another photograph does (AUROC); of the names that hold, the one that
separates best is taken. After Bykov et al. 2023, "Labeling Neural Representations with Inverse Recognition" (INVERT),
which chooses and checks on the same images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from featviz.errors import UserError
from featviz.seeds import generator_for

from .vocabulary import Bools, Concepts

Floats = NDArray[np.float64]
# Of the photographs, those that choose names; the others check them.
CHOOSING = 0.4
# Photographs below which nothing can be checked, and those that a name is asked about: more would say it no better.
LEAST_CHECKING, MOST_IMAGES = 20, 5000
# Photographs of a name that are needed to choose it, and to check it.
CHOOSERS, CHECKERS = 5, 8
# A name is worth saying where this holds of the photographs that check it: it is true of no more than half of all of
# them, an AUROC of at least so much, so sure (corrected for the names tried), and of those ten photographs that excite
# the unit most it is true of so many.
COMMONEST, LOWEST_AUROC, ALPHA, STRONGEST, SHARE = 0.5, 0.6, 0.05, 10, 0.5
# AUROCs that differ by less are as good.
AS_GOOD = 0.01
# Units at once, so that memory does not grow with them.
_UNITS = 256
# The 95 % interval's half width in standard deviations: 0.975 of a normal distribution lie below it.
_WIDTH, _EDGE = 1.959963984540054, 1e-9


@dataclass(frozen=True)
class Name:
    """A name with its evidence, all of it from photographs that did not choose it.

    `text`; `auroc`: how often a photograph of the name excites the unit more than another one does; `low`, `high`: 95 %
    interval of it; `p`: of chance doing as well, times the number of names tried; `positives`: photographs of the name;
    `share`: of the ten photographs that excite the unit most, how many are of the name; `by`: who says which are.
    """

    text: str
    auroc: float
    low: float
    high: float
    p: float
    positives: int
    share: float
    by: str

    @property
    def told(self) -> str:
        """In words, with how well it holds."""
        return f"{self.text} (AUROC {self.auroc:.2f})"


@dataclass(frozen=True)
class Evidence:
    """What units do on photographs, `values` (units, images), and which names are true of those, (images, names).

    `inside`: (units, images), where a unit is a part of something, of that part the share that each image has; a name's
    share is then of that, instead of the ten photographs that excite the unit most.
    """

    values: NDArray[np.float32]
    members: Bools
    inside: NDArray[np.float32] | None = None

    def shares(self) -> Floats:
        """(units, names): of the images that are most the unit's, how many are of the name."""
        if self.inside is not None:
            return self.inside.astype(np.float64) @ self.members
        strongest = np.argsort(-self.values, axis=1, kind="stable")[:, :STRONGEST]
        return np.stack([self.members[rows].mean(0) for rows in strongest])

    def part(self, units: slice, names: NDArray[np.int64]) -> Evidence:
        """Of some units, on some names."""
        inside = None if self.inside is None else self.inside[units]
        return Evidence(self.values[units], self.members[:, names], inside)


def name_units(
    choosing: Evidence, checking: Evidence, concepts: Concepts, *, share: float = SHARE
) -> list[Name | None]:
    """Each unit's name, chosen on some photographs and checked on others; None where none holds.

    concepts: whose names they are. share: of the ten photographs that excite a unit most, how many its name has to be
    true of. Raises `UserError` where there is too little to check by.
    """
    count = len(checking.members)
    if count < LEAST_CHECKING:
        raise UserError(
            f"{count} photographs with a name are left to check names by; it takes at least {LEAST_CHECKING}."
        )
    tried = worth_trying(choosing.members, checking.members)
    if not len(tried):
        return [None] * len(choosing.values)
    found: list[Name | None] = []
    for start in range(0, len(choosing.values), _UNITS):
        block = slice(start, start + _UNITS)
        best = _chosen(choosing.part(block, tried), share)
        found += _checked(checking.part(block, tried), best, [concepts.names[column] for column in tried], concepts.by)
    return [name if name is not None and name.share >= share else None for name in found]


def worth_trying(choosing: Bools, checking: Bools) -> NDArray[np.int64]:
    """Which names have photographs enough to be chosen and checked, and are not true of nearly everything.

    Of names that are true of the very same photographs the last one stays.
    """
    both = np.concatenate([choosing, checking])
    enough = (choosing.sum(0) >= CHOOSERS) & (checking.sum(0) >= CHECKERS) & (both.mean(0) <= COMMONEST)
    found: NDArray[np.int64] = np.flatnonzero(enough)
    if not len(found):
        return found
    _, last = np.unique(np.packbits(both[:, found][:, ::-1], axis=0), axis=1, return_index=True)
    return np.sort(found[::-1][last])


def aurocs(values: NDArray[np.float32], members: Bools) -> tuple[Floats, Floats]:
    """(units, names): how often an image of the name has a larger value than one that is not, and that in deviations.

    values: (units, images); members: (images, names). Ties count a half; the deviation is that of shuffled labels, ties
    taken into account (Mann and Whitney 1947). NaN for a name of no image or of all, and for values that never vary.
    """
    from scipy.stats import rankdata

    count = len(members)
    ranks = rankdata(values, axis=1)
    inside = members.sum(0, dtype=np.float64)
    pairs = inside * (count - inside)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (ranks @ members.astype(np.float64) - inside * (inside + 1) / 2) / pairs
        spread = np.sqrt(pairs * ranks.var(1, keepdims=True, ddof=1) / count)
        return found, (found - 0.5) * pairs / spread


def split(count: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """So many images in two: the numbers of those that choose names, and of those that check them, each rising."""
    order = torch.randperm(count, generator=generator_for(seed, "choosing names")).numpy()
    chooses = round(CHOOSING * count)
    return np.sort(order[:chooses][:MOST_IMAGES]), np.sort(order[chooses:][:MOST_IMAGES])


def interval(auroc: float, positives: int, negatives: int) -> tuple[float, float]:
    """95 % interval of an AUROC, inside [0, 1] and of some width even where it is 1.

    All values whose own deviation would explain the AUROC found: Newcombe 2006, "Confidence intervals for an effect
    size measure based on the Mann-Whitney statistic. Part 2", method 5.
    """
    from scipy.optimize import brentq

    more = (positives + negatives) / 2 - 1

    def off(true: float, side: int) -> float:
        spread = true * (1 - true) * (1 + more * ((1 - true) / (2 - true) + true / (1 + true)))
        return side * (auroc - true) - _WIDTH * float(np.sqrt(spread / (positives * negatives)))

    # An AUROC of 0 or 1 is itself a root, and not the one that is looked for.
    inside = min(max(auroc, _EDGE), 1 - _EDGE)
    low = 0.0 if auroc <= _EDGE else float(brentq(off, 0.0, inside, args=(1,)))
    high = 1.0 if auroc >= 1 - _EDGE else float(brentq(off, inside, 1.0, args=(-1,)))
    return min(low, auroc), max(high, auroc)


def _chosen(evidence: Evidence, share: float) -> NDArray[np.int64]:
    """(units,) the name that fits each unit best, -1 for none.

    Of names that are surely no chance the one with the largest AUROC: the most precise, since wide ones separate less.
    Where none is sure, the surest.
    """
    from scipy.stats import norm

    found, deviations = aurocs(evidence.values, evidence.members)
    fits = np.isfinite(found) & (evidence.shares() >= share)
    sure = fits & (norm.sf(deviations) * evidence.members.shape[1] < ALPHA)
    good = np.where(sure, found, -np.inf)
    # Of names that are as good, the rarest.
    alike = sure & (good >= good.max(1, keepdims=True) - AS_GOOD)
    rarest = np.where(alike, evidence.members.sum(0), np.inf).argmin(1)
    best = np.where(sure.any(1), rarest, np.where(fits, deviations, -np.inf).argmax(1))
    return np.where(fits.any(1), best, -1)


def _checked(evidence: Evidence, best: NDArray[np.int64], texts: Sequence[str], by: str) -> list[Name | None]:
    """The units' names with what these photographs say of them, None where they do not bear them out."""
    from scipy.stats import mannwhitneyu

    shares = evidence.shares()
    found: list[Name | None] = []
    for unit, (values, column) in enumerate(zip(evidence.values.astype(np.float64), best.tolist(), strict=True)):
        if column < 0 or not np.isfinite(values).all() or np.ptp(values) == 0:
            found.append(None)
            continue
        inside, outside = values[evidence.members[:, column]], values[~evidence.members[:, column]]
        # With nothing added for the steps between ranks: what `aurocs` counts, to the last digit.
        test = mannwhitneyu(inside, outside, alternative="greater", method="asymptotic", use_continuity=False)
        auroc = float(test.statistic) / (len(inside) * len(outside))
        p = min(1.0, float(test.pvalue) * len(texts))
        if auroc < LOWEST_AUROC or p >= ALPHA:
            found.append(None)
            continue
        low, high = interval(auroc, len(inside), len(outside))
        share = float(shares[unit, column])
        found.append(Name(texts[column], auroc, low, high, p, len(inside), share, by))
    return found


def closest_names(evidence: Evidence, concepts: Concepts, *, count: int = 5) -> list[list[tuple[str, float]]]:
    """The names that fit each unit best, best first, with how well: a guess on these very photographs, not evidence.

    By the correlation of the unit with how sure the vocabulary is, where it says how sure; else by AUROC, of names that
    fit equally well the more precise one first.
    """
    if concepts.graded is not None:
        fits = _correlations(evidence.values, concepts.graded[concepts.known])
    else:
        fits = aurocs(evidence.values, evidence.members)[0]
    fits = np.where(np.isfinite(fits), fits, -np.inf)
    depth = np.array([len(concepts.above.get(name, ())) for name in concepts.names])
    order = [np.lexsort((-depth, -own))[:count] for own in fits]
    return [
        [(concepts.names[column], float(own[column])) for column in best if own[column] > -np.inf]
        for own, best in zip(fits, order, strict=True)
    ]


def _correlations(values: NDArray[np.float32], graded: NDArray[np.float32]) -> Floats:
    """(units, names) Pearson's correlations over the images: values (units, images), graded (images, names)."""
    own, others = values.astype(np.float64), graded.T.astype(np.float64)
    parts = [each - each.mean(1, keepdims=True) for each in (own, others)]
    with np.errstate(invalid="ignore", divide="ignore"):
        first, second = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in parts)
    found: Floats = first @ second.T
    return found
