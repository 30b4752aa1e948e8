"""An atlas whose every icon is one colour that its place gives, for tests of pages."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from atlas.grid import bin_cells
from atlas.result import Atlas
from atlas.sample import Sample
from atlas.settings import Settings
from search.images.images import Images

CLASSES = ("tench", "goldfish", "great white shark", "tiger shark", "hen", "ostrich")


def color(level: int, row: int, col: int) -> tuple[int, int, int]:
    """Of a cell's icon: columns grow redder, rows greener, levels have their own blue."""
    return (40 + 180 * col // level, 40 + 180 * row // level, 60 + 30 * (level.bit_length() % 5))


def painted_atlas(
    levels: tuple[int, ...] = (4, 8), *, layer: str = "blocks.5", classes: tuple[str, ...] = CLASSES, seed: int = 0,
    each: int = 3, icon: int = 32, names: tuple[str, ...] = (),
) -> Atlas:  # fmt: skip
    """`each` vectors in every cell of the finest level, but none on its diagonal where that is finer than 4."""
    rng = np.random.default_rng(seed)
    finest = max(levels)
    places = [(row, col) for row in range(finest) for col in range(finest) if finest <= 4 or row != col]
    xy = np.repeat(np.array([((col + 0.5) / finest, (row + 0.5) / finest) for row, col in places], np.float32), each, 0)
    n = len(xy)
    effects = rng.normal(size=(n, len(classes))).astype(np.float32) * 0.1
    # Each class is the strongest in a stripe of columns.
    effects[np.arange(n), np.minimum((xy[:, 0] * len(classes)).astype(int), len(classes) - 1)] += 1
    names = names or tuple(f"{number:03d}.png" for number in range(9))
    found = Sample(
        vectors=rng.random((n, 7), np.float32), image=rng.integers(0, len(names), n),
        position=np.ones((n, 2), np.int64), box=np.tile(np.array([0, 0, 40, 40], np.float32), (n, 1)), effects=effects,
    )  # fmt: skip
    cells = bin_cells(xy, found.vectors, found.image, found.position, levels=levels, effects=effects)
    pictures = np.stack([np.full((icon, icon, 3), color(cell.level, cell.row, cell.col), np.uint8) for cell in cells])
    settings = Settings(layer=layer, grid=levels, icon=icon)
    images = {"used": len(names), "source": "painted", "skipped": []}
    manifest: dict[str, Any] = {
        "model": "painted",
        "settings": {"layer": layer, "grid": list(levels)},
        "images": images,
    }
    return Atlas(settings, cells, pictures, found, xy, names, manifest, classes)


class Photos:
    """In the place of `Photographs`: images of one colour each, of which the middle was seen."""

    def __init__(self, found: Sample, names: tuple[str, ...]) -> None:
        self.found = found
        self.images = _Plain("painted", names, (-1,) * len(names), ("",) * len(names))

    def box(self, row: int) -> tuple[float, float, float, float]:
        return (10.0, 10.0, 30.0, 30.0)


class _Plain(Images):
    def open(self, index: int) -> Image.Image:
        return Image.new("RGB", (40, 40), (20 * index, 100, 200))
