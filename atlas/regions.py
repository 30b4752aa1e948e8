"""Cells that belong together, and what they are called: a map's regions at several nearnesses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from search.naming.naming import Evidence, Name, name_units
from search.naming.vocabulary import Concepts

from .cell_names import Floats, Seen, around
from .grid import Cell

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# What a region has to say, in bits times its share of the map, to be worth a name when looked at from so near: from
# far away few large regions are named, nearer smaller ones.
NEARNESS = (0.03, 0.012, 0.004)
# Of the activations in a region, how many have to be of photographs of its name.
PURITY = 0.6


@dataclass(frozen=True)
class Region:
    """Cells of one grid that belong together: `level`: 0 from far away, rising; `grid`; `cells`: (row, column).

    `xy`: their middle in the unit square; `share`: of the map's activations; `purity`: of those in the region, of
    photographs that did not choose its name, how many are of photographs of that name.
    """

    level: int
    grid: int
    cells: tuple[tuple[int, int], ...]
    xy: tuple[float, float]
    share: float
    purity: float
    name: Name


@dataclass(frozen=True)
class _Candidate:
    """A part of the map: the numbers of its `cells`, its two `parts` by their numbers, and its `share`."""

    cells: tuple[int, ...]
    parts: tuple[int, ...]
    share: float


def find_regions(
    cells: Sequence[Cell],
    middle: Floats,
    seen: tuple[Seen, Seen],
    inside: Sequence[NDArray[np.int64]],
    concepts: Concepts,
) -> tuple[Region, ...]:
    """The named regions of a level, for each nearness, those that say most about the map; they may nest.

    The map is joined cell by cell, always the two neighbouring parts whose directions are most alike (Ward 1963). Each
    part is named like a unit: by the mean cosine of a photograph's activations with its mean direction. Of all ways to
    cut the joining, the one whose names say most is taken; a name says log2(purity / how common it is) bits.

    cells: of one level. seen: the photographs that choose, and those that check. inside: of both, in which of the cells
    each activation lies, -1 for none.
    """
    if len(cells) < 2:
        return ()
    parts = _parts(cells, middle)
    counts = np.array([cell.count for cell in cells], dtype=np.float64)
    means = np.stack([cell.mean for cell in cells]) - middle
    directions = np.stack([counts[list(part.cells)] @ means[list(part.cells)] for part in parts]).astype(np.float32)
    first, second = (
        Evidence(each.values(directions, middle, most=False), each.members, _weights(parts, own, each, len(cells)))
        for each, own in zip(seen, inside, strict=True)
    )
    names = name_units(first, second, concepts, share=PURITY)
    checked = len(seen[1].members)
    worth = [
        0.0 if name is None else part.share * name.share * float(np.log2(name.share * checked / name.positives))
        for part, name in zip(parts, names, strict=True)
    ]
    return tuple(
        _region(level, cells, parts[number], names[number])
        for level, price in enumerate(NEARNESS)
        for number in _best_cut(parts, worth, price)
    )


def read_regions(entries: Sequence[Mapping[str, Any]]) -> tuple[Region, ...]:
    """Regions as `regions.json` holds them."""
    return tuple(
        Region(
            entry["level"], entry["grid"], tuple((row, col) for row, col in entry["cells"]),
            (entry["xy"][0], entry["xy"][1]), entry["share"], entry["purity"], Name(**entry["name"]),
        )
        for entry in entries
    )  # fmt: skip


def _parts(cells: Sequence[Cell], middle: Floats) -> list[_Candidate]:
    """Every part of the joining, each after the parts that it is joined of; the last is the whole."""
    from sklearn.cluster import AgglomerativeClustering  # more than a second, as all of SciPy's together

    weights = around(cells)
    directions = weights @ (np.stack([cell.mean for cell in cells]) - middle)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    joined = AgglomerativeClustering(n_clusters=1, linkage="ward", connectivity=_connected(cells, weights))
    merges = joined.fit(directions).children_.tolist()
    counts = np.array([cell.count for cell in cells], dtype=np.float64)
    found = [_Candidate((number,), (), counts[number] / counts.sum()) for number in range(len(cells))]
    for first, second in merges:
        own = found[first].cells + found[second].cells
        found.append(_Candidate(own, (first, second), found[first].share + found[second].share))
    return found


def _connected(cells: Sequence[Cell], beside: csr_array) -> csr_array:
    """Which cells may be joined: those beside each other, and from each island of them the way to the nearest other."""
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    linked = beside.tolil()
    places = np.array([(cell.row, cell.col) for cell in cells])
    while True:
        count, island = connected_components(linked, directed=False)
        if count == 1:
            return linked.tocsr()
        own, others = np.flatnonzero(island == 0), np.flatnonzero(island != 0)
        far, near = KDTree(places[others]).query(places[own])
        here = int(far.argmin())
        linked[own[here], others[near[here]]] = linked[others[near[here]], own[here]] = 1


def _weights(parts: Sequence[_Candidate], inside: NDArray[np.int64], seen: Seen, count: int) -> Floats:
    """(parts, images): of the activations in each part, the share that each image has."""
    known = inside >= 0
    tally = np.zeros((count, len(seen.members)), np.float32)
    np.add.at(tally, (inside[known], seen.image[known]), 1)
    sums = np.stack([tally[list(part.cells)].sum(0) for part in parts])
    return np.asarray(sums / np.maximum(sums.sum(1, keepdims=True), 1), dtype=np.float32)


def _best_cut(parts: Sequence[_Candidate], worth: Sequence[float], price: float) -> tuple[int, ...]:
    """Which parts, none inside another, are worth most in all when each costs so much."""
    best: list[tuple[float, tuple[int, ...]]] = []
    for number, part in enumerate(parts):
        inner = (sum(best[each][0] for each in part.parts), sum((best[each][1] for each in part.parts), ()))
        best.append(max((worth[number] - price, (number,)), inner, key=lambda each: each[0]))
    return best[-1][1]


def _region(level: int, cells: Sequence[Cell], part: _Candidate, name: Name | None) -> Region:
    assert name is not None  # what has none is worth nothing
    own = [cells[number] for number in part.cells]
    counts = np.array([cell.count for cell in own], dtype=np.float64)
    middle = counts @ np.array([cell.xy for cell in own]) / counts.sum()
    places = tuple(sorted((cell.row, cell.col) for cell in own))
    return Region(
        level, own[0].level, places, (float(middle[0]), float(middle[1])), float(part.share), name.share, name
    )
