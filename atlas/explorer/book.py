"""Atlases -> what the explorer's page holds: a manifest, and inert blocks of arrays and pictures by name."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..grid import Cell, cell_numbers

if TYPE_CHECKING:
    from ..photos import Photographs
    from ..result import Atlas

# The page's format; a viewer says so when a page is of a later one.
FORMAT = 1
# Pictures in one sheet, and the side of an icon where there are many.
PER_SHEET, MANY, SMALL_ICON = 100, 1000, 64
# Classes and channels that a cell names; photographs of each cell, their side, and how many a page holds at most.
CLASSES, CHANNELS, PHOTOS, THUMB, MOST_THUMBS = 5, 5, 3, 96, 1500
# Numbers of a level's effects on all classes up to which they are embedded.
MOST_VALUES = 1_000_000
_QUALITY = 75


@dataclass(frozen=True)
class Leaf:
    """One map of a page: an atlas under a name.

    `ends`: what its left and right end mean, where they mean something; `tint`: cell key -> a number shown as colour;
    `photographs`: where its cells' photographs come from, None for none.
    """

    name: str
    atlas: Atlas
    ends: tuple[str, str] | None = None
    tint: Mapping[str, float] | None = None
    photographs: Photographs | None = None


@dataclass
class Book:
    """What a page holds: `manifest`, and `blocks`: name -> base64 text."""

    manifest: dict[str, Any]
    blocks: dict[str, str] = field(default_factory=dict)


def make_book(
    leaves: Sequence[Leaf],
    *,
    title: str,
    facts: Mapping[str, Any],
    notes: Sequence[str] = (),
    links: Mapping[str, str] | None = None,
    start: str = "",
) -> Book:
    """The maps' cells, icons, effects on all classes and nearest photographs, as far as a page can hold them.

    facts, notes: how it was made and what was found, in words. links: what lies beside the page, text -> file. start:
    the state that the page opens in, as its address would say it.
    """
    thumbs = _Thumbs()
    classes = max((leaf.atlas.classes for leaf in leaves), key=len)
    blocks: dict[str, str] = {}
    maps = []
    for number, leaf in enumerate(leaves):
        levels = [
            _level(f"{number}/{place}", leaf, level, len(classes), thumbs, blocks)
            for place, level in enumerate(sorted(leaf.atlas.levels))
        ]
        maps.append({"name": leaf.name, "layer": leaf.atlas.settings.layer, "ends": leaf.ends, "levels": levels})
    for number in range(0, len(thumbs.pictures), PER_SHEET):
        blocks[f"thumbs/{number // PER_SHEET}"] = _sheet(thumbs.pictures[number : number + PER_SHEET], columns=10)
    manifest = {
        "format": FORMAT,
        "title": title,
        "facts": {name: str(value) for name, value in facts.items()},
        "notes": list(notes),
        "links": list((links or {}).items()),
        "start": start,
        "classes": list(classes),
        "images": thumbs.names,
        "thumb_side": THUMB,
        "thumb_count": len(thumbs.pictures),
        "maps": maps,
    }
    return Book(manifest, blocks)


class _Thumbs:
    """Photographs as the network saw them, each once."""

    def __init__(self) -> None:
        self.pictures: list[NDArray[np.uint8]] = []
        self.names: list[str] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self._names: dict[str, int] = {}

    def of(self, photographs: Photographs, row: int) -> tuple[int, list[float], int] | None:
        """(number, the box seen in it as shares of its sides, its image's name), None where it cannot be opened."""
        found = photographs.found
        view = tuple(float(side) for side in found.box[row])
        key = (id(photographs), int(found.image[row]), view)
        if key not in self._known:
            if len(self.pictures) >= MOST_THUMBS:
                return None
            try:
                image = photographs.images.open(int(found.image[row]))
            except Exception:  # Pillow's decoders raise almost anything on a file that was damaged since
                return None
            part = image.resize((THUMB, THUMB), Image.Resampling.LANCZOS, box=(view[0], view[1], view[2], view[3]))
            self._known[key] = len(self.pictures)
            self.pictures.append(np.asarray(part.convert("RGB")))
        left, top, right, bottom = photographs.box(row)
        wide, high = view[2] - view[0], view[3] - view[1]
        box = [(left - view[0]) / wide, (top - view[1]) / high, (right - view[0]) / wide, (bottom - view[1]) / high]
        name = photographs.images.names[int(found.image[row])]
        place = self._names.setdefault(name, len(self._names))
        if place == len(self.names):
            self.names.append(name)
        return self._known[key], [round(side, 3) for side in box], place


def _level(name: str, leaf: Leaf, level: int, classes: int, thumbs: _Thumbs, blocks: dict[str, str]) -> dict[str, Any]:
    atlas = leaf.atlas
    shown = [number for number, cell in enumerate(atlas.cells) if cell.level == level]
    cells = [atlas.cells[number] for number in shown]
    side = atlas.settings.icon if len(cells) <= MANY else min(atlas.settings.icon, SMALL_ICON)
    for number in range(0, len(cells), PER_SHEET):
        icons = [_resized(atlas.pictures[each], side) for each in shown[number : number + PER_SHEET]]
        blocks[f"{name}/icons/{number // PER_SHEET}"] = _sheet(icons)
    values = atlas.effects is not None and 0 < len(cells) * classes <= MOST_VALUES
    if values:
        blocks[f"{name}/values"], blocks[f"{name}/scale"] = _values(atlas, cells, level)
    about: dict[str, Any] = {
        "grid": level,
        "pixels": side,
        "cells": len(cells),
        "row": _array([cell.row for cell in cells], np.uint16),
        "col": _array([cell.col for cell in cells], np.uint16),
        "count": _array([cell.count for cell in cells], np.uint32),
        "score": _array([np.nan if cell.score is None else cell.score for cell in cells], np.float32),
        "top": _array(_padded(cells, lambda cell: [label for label, _ in cell.top], CLASSES), np.int32),
        "effect": _array(_padded(cells, lambda cell: [value for _, value in cell.top], CLASSES), np.float32),
        "strong": _array(_strong(atlas, cells), np.int32),
        "values": values,
    }
    if leaf.tint is not None:
        about["tint"] = _array([leaf.tint.get(cell.key, 0.0) for cell in cells], np.float32)
    if leaf.photographs is not None and len(cells) <= MANY:
        about["seen"] = [_seen(cell, leaf.photographs, thumbs) for cell in cells]
    return about


def _seen(cell: Cell, photographs: Photographs, thumbs: _Thumbs) -> list[tuple[int, list[float], int]]:
    found = (thumbs.of(photographs, row) for row in cell.nearest[:PHOTOS])
    return [each for each in found if each is not None]


def _values(atlas: Atlas, cells: Sequence[Cell], level: int) -> tuple[str, str]:
    """The cells' mean effects on all classes as shares of the largest, int8 (127 is it), and how large that is."""
    assert atlas.effects is not None
    numbers = cell_numbers(atlas.xy, level)
    means = np.stack(
        [atlas.effects[numbers == cell.row * level + cell.col].mean(0, dtype=np.float64) for cell in cells]
    )
    scale = np.abs(means).max(1).clip(1e-12)
    return _array(np.round(means / scale[:, None] * 127), np.int8), _array(scale, np.float32)


def _strong(atlas: Atlas, cells: Sequence[Cell]) -> NDArray[np.int32]:
    """(cells, CHANNELS) the channels whose mean in the cell is the most standard deviations above the layer's."""
    vectors = atlas.sample.vectors
    mean, spread = vectors.mean(0), vectors.std(0) + 1e-12
    means = np.stack([cell.mean for cell in cells]) if cells else np.empty((0, vectors.shape[1]))
    order = np.argsort(-(means - mean) / spread, axis=1, kind="stable")[:, :CHANNELS].astype(np.int32)
    return np.pad(order, ((0, 0), (0, CHANNELS - order.shape[1])), constant_values=-1)


def _padded(cells: Sequence[Cell], of: Callable[[Cell], list[Any]], count: int) -> list[list[Any]]:
    return [(of(cell) + [-1] * count)[:count] for cell in cells]


def _array(values: Any, kind: type) -> str:
    # Little-endian, as the viewer's typed arrays read it.
    array = np.ascontiguousarray(np.asarray(values, dtype=np.dtype(kind).newbyteorder("<")))
    return base64.b64encode(array.tobytes()).decode("ascii")


def _resized(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if len(picture) == side:
        return picture
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS))


def _sheet(pictures: Sequence[NDArray[np.uint8]], *, columns: int = 0) -> str:
    """Pictures of one size, ten in a row or as few as there are, as one WebP."""
    side, columns = len(pictures[0]), columns or min(10, len(pictures))
    sheet = Image.new("RGB", (columns * side, -(-len(pictures) // columns) * side))
    for number, picture in enumerate(pictures):
        sheet.paste(Image.fromarray(picture), (number % columns * side, number // columns * side))
    stream = BytesIO()
    sheet.save(stream, "WEBP", quality=_QUALITY, method=4)
    return base64.b64encode(stream.getvalue()).decode("ascii")
