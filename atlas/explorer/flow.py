"""Cells of one map -> the cells of another that hold the same activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..grid import cell_numbers
from .blocks import array
from .leaf import Leaf

# Cells of the other map that one is linked with.
_MOST = 3


def flows(leaves: Sequence[Leaf], number: int, level: int) -> dict[str, Any]:
    """Other map's number -> its grid, and of each cell of this level up to three of its cells, -1 where fewer."""
    found = {}
    for other, leaf in enumerate(leaves):
        if other != number and leaves[number].ids is not None and leaf.ids is not None:
            grid = min(leaf.atlas.levels, key=lambda each: abs(each - level))
            linked = _flow(leaves[number], level, leaf, grid)
            if linked is not None:
                found[str(other)] = {"grid": grid, "cells": array(linked, np.int32)}
    return found


def _flow(here: Leaf, level: int, there: Leaf, grid: int) -> list[list[int]] | None:
    assert here.ids is not None
    assert there.ids is not None
    _, own, others = np.intersect1d(here.ids, there.ids, return_indices=True)
    if not len(own):
        return None
    from_cells = cell_numbers(here.atlas.xy[own], level)
    to_cells = cell_numbers(there.atlas.xy[others], grid)
    cells = [there.atlas.cells[number] for number in there.shown(grid)]
    places = {cell.row * grid + cell.col: place for place, cell in enumerate(cells)}
    linked = []
    for cell in (here.atlas.cells[number] for number in here.shown(level)):
        numbers, counts = np.unique(to_cells[from_cells == cell.row * level + cell.col], return_counts=True)
        order = numbers[np.argsort(-counts, kind="stable")]
        most = [places[int(each)] for each in order if int(each) in places][:_MOST]
        linked.append(most + [-1] * (_MOST - len(most)))
    return linked
