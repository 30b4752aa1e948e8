"""One map of a page, and one level of it as the page holds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..channels import MANY, strong_channels
from ..grid import Cell, cell_numbers
from ..settings import LabelledBy
from .blocks import array, resized, shares, sheets
from .thumbs import Thumbs

if TYPE_CHECKING:
    from ..photos import Photographs
    from ..result import Atlas

# The side of an icon of a level with many cells.
SMALL_ICON = 64
# Classes that a cell names; photographs of each cell.
CLASSES, PHOTOS = 5, 3
# Numbers of a level's effects on all classes, or of its channels, up to which they are embedded.
MOST_VALUES, MOST_COARSE = 1_000_000, 8_000_000
# Cells per side of the squares in whose order cells are kept, so that those in view lie in few sheets.
_SQUARE = 10


@dataclass(frozen=True)
class Leaf:
    """One map of a page: an atlas under a name.

    `ends`: what its left and right end mean, where they mean something; `tint`: cell key -> a number shown as colour;
    `photographs`: where its cells' photographs come from, None for none; `ids`: (n,) which activations of a common
    sample its own are: cells of two maps that share activations are linked; `channels`: of the layer, those that the
    atlas's vectors hold, None for all; `labelled_by`: what its cells are labelled with, None for the atlas's own rule.
    """

    name: str
    atlas: Atlas
    ends: tuple[str, str] | None = None
    tint: Mapping[str, float] | None = None
    photographs: Photographs | None = None
    ids: NDArray[np.int64] | None = None
    channels: Sequence[int] | None = None
    labelled_by: LabelledBy | None = None

    @property
    def labels(self) -> str:
        """What the page labels its cells with; '' for nothing."""
        by = self.labelled_by or self.atlas.labelled_by
        return by if by == "names" or self.atlas.speaks_for else ""

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the classes are called that effects are known of, by number where they have no names."""
        effects = self.atlas.effects
        count = 0 if effects is None else effects.shape[1]
        return tuple(self.atlas.class_name(label) for label in range(count))

    def channel(self, column: int) -> int:
        """The channel that a column of the vectors is; -1 stays."""
        return column if self.channels is None or column < 0 else self.channels[column]

    def shown(self, level: int) -> list[int]:
        """Numbers of the level's cells in the page's order."""
        cells = self.atlas.cells
        numbers = [number for number, cell in enumerate(cells) if cell.level == level]
        return sorted(numbers, key=lambda number: _square(cells[number]))


def _square(cell: Cell) -> tuple[int, int, int, int]:
    return (cell.row // _SQUARE, cell.col // _SQUARE, cell.row, cell.col)


def level_of(
    name: str, leaf: Leaf, level: int, columns: Sequence[int], thumbs: Thumbs, blocks: dict[str, str]
) -> dict[str, Any]:
    """A level for the manifest; its icons, effects and channels go into the blocks, its photographs to the thumbs.

    name: the beginning of its blocks' names. columns: of the vectors, those of the channels with a card, whose means in
    the cells are kept.
    """
    atlas, shown = leaf.atlas, leaf.shown(level)
    cells = [atlas.cells[number] for number in shown]
    side = atlas.settings.icon if len(cells) <= MANY else min(atlas.settings.icon, SMALL_ICON)
    blocks.update(sheets([resized(atlas.pictures[number], side) for number in shown], f"{name}/icons"))
    strong = strong_channels(cells, atlas.sample.vectors)
    classes = 0 if atlas.effects is None else atlas.effects.shape[1]
    # The coarsest level's are what finer ones fall back on.
    most = MOST_COARSE if level == min(atlas.levels) else MOST_VALUES
    values = 0 < len(cells) * classes <= most
    if values:
        blocks[f"{name}/values"], blocks[f"{name}/scale"] = shares(_effects(atlas, cells, level))
    known = 0 < len(cells) * len(columns) <= MOST_VALUES
    if known:
        means = np.stack([cell.mean for cell in cells]) - atlas.sample.vectors.mean(0)
        blocks[f"{name}/channels"], blocks[f"{name}/channel-scale"] = shares(means[:, list(columns)])
    about: dict[str, Any] = {
        "grid": level,
        "pixels": side,
        "cells": len(cells),
        "row": array([cell.row for cell in cells], np.uint16),
        "col": array([cell.col for cell in cells], np.uint16),
        "count": array([cell.count for cell in cells], np.uint32),
        "score": array([np.nan if cell.score is None else cell.score for cell in cells], np.float32),
        "top": array(_padded(cells, lambda cell: [label for label, _ in cell.top]), np.int32),
        "effect": array(_padded(cells, lambda cell: [value for _, value in cell.top]), np.float32),
        "strong": array(np.vectorize(leaf.channel, otypes=[np.int32])(strong), np.int32),
        "values": values,
        "channels": known,
    }
    if leaf.tint is not None:
        about["tint"] = array([leaf.tint.get(cell.key, 0.0) for cell in cells], np.float32)
    if leaf.photographs is not None and len(cells) <= MANY:
        about["seen"] = [thumbs.of_rows(leaf.photographs, list(cell.nearest[:PHOTOS])) for cell in cells]
    return about


def _effects(atlas: Atlas, cells: Sequence[Cell], level: int) -> NDArray[np.float64]:
    """(cells, classes) the mean effect of each cell's activations."""
    assert atlas.effects is not None
    numbers = cell_numbers(atlas.xy, level)
    effects = atlas.effects
    return np.stack([effects[numbers == cell.row * level + cell.col].mean(0, dtype=np.float64) for cell in cells])


def _padded(cells: Sequence[Cell], of: Callable[[Cell], list[Any]]) -> list[list[Any]]:
    return [(of(cell) + [-1] * CLASSES)[:CLASSES] for cell in cells]
