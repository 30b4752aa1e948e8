"""An atlas as a result: what it holds, its figure, and the folder it is written to and loaded from."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from featviz.errors import UserError
from featviz.output import OutputFolder

from .explorer import atlas_page
from .figure import atlas_figure, save_figure
from .grid import Cell, bin_cells, cell_numbers
from .icons import sheet
from .sample import Sample
from .settings import Settings


@dataclass(frozen=True)
class Atlas:
    """An activation atlas.

    `cells`: every level's cells that got an icon; `pictures`: (cells, icon, icon, 3) their icons; `sample`: the vectors
    behind them; `xy`: (n, 2) their layout; `names`: the images' names by number; `manifest`: how it was made;
    `classes`: the classes' names, where effects on them are known.
    """

    settings: Settings
    cells: tuple[Cell, ...]
    pictures: NDArray[np.uint8]
    sample: Sample
    xy: NDArray[np.float32]
    names: tuple[str, ...]
    manifest: Mapping[str, Any]
    classes: tuple[str, ...] = ()

    @property
    def effects(self) -> NDArray[np.float32] | None:
        """(n, classes) the effect of each vector on every class; None where it is not known."""
        return self.sample.effects

    def class_name(self, label: int) -> str:
        """A class's name, else its number."""
        return self.classes[label] if label < len(self.classes) else f"class {label}"

    @property
    def levels(self) -> tuple[int, ...]:
        """The grid sizes, as asked for."""
        return self.settings.grid

    def icons(self, level: int | None = None) -> NDArray[np.uint8]:
        """All icons of a level in one RGBA sheet; empty cells are transparent."""
        return sheet(self.cells, self.pictures, self._level(level))

    def figure(self, level: int | None = None) -> Figure:
        """The atlas of a level (default: the first) as a matplotlib figure."""
        level = self._level(level)
        scores = [cell.score for cell in self.cells if cell.level == level and cell.score is not None]
        title = f"Activation atlas of {self.manifest['model']}, layer {self.settings.layer}"
        caption = (
            f"{len(self.xy):,} activations of {self.manifest['images']['used']:,} images, {self.settings.reducer}; "
            f"{len(scores)} of {level} × {level} cells; icon area by number of activations;\n"
            f"score (cosine of the icon's own activation with the cell's whitened mean): median {np.median(scores):.2f}"
        )
        labels = {cell.key: self.class_name(cell.top[0][0]) for cell in self.cells if cell.level == level and cell.top}
        if labels:
            caption += "; labels: the class that the cell's activations have the largest effect on"
        return atlas_figure(self.cells, self.pictures, level, title=title, caption=caption, labels=labels)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the atlas as the command line does; returns the folder."""
        out = OutputFolder.claim(folder, self.manifest["identity"], overwrite=overwrite)
        if not out.finished:
            write(self, out)
        return out.path

    def _level(self, level: int | None) -> int:
        if level is not None and level not in self.levels:
            raise UserError(f"this atlas has no level {level}; it has {', '.join(map(str, self.levels))}.")
        return self.levels[0] if level is None else level


def load(folder: str | Path) -> Atlas:
    """The atlas that `build` wrote into a folder; a `UserError` where there is no finished one."""
    folder = Path(folder)
    file = folder / "manifest.json"
    if not file.is_file():
        raise UserError(f"{str(folder)!r} holds no finished atlas (no manifest.json).")
    manifest = json.loads(file.read_text(encoding="utf-8"))
    if manifest.get("command") != "build":
        raise UserError(f"{str(folder)!r} was made by `atlas {manifest.get('command')}`, not by `atlas build`.")
    settings = Settings(**{**manifest["settings"], "grid": tuple(manifest["settings"]["grid"])})
    store = zarr.open_group(str(folder / "store"), mode="r")
    arrays = {
        name: np.asarray(store[name]) for name in ("vectors", "image", "position", "box", "effects") if name in store
    }
    found, xy = Sample(**arrays), np.asarray(store["xy"])
    means = {
        cell.key: cell.mean
        for cell in bin_cells(xy, found.vectors, found.image, found.position, levels=settings.grid, exemplars=0)
    }
    cells = tuple(_cell(entry, means) for entry in json.loads((folder / "cells.json").read_text(encoding="utf-8")))
    pictures = np.stack([_tile(folder, cell, settings.icon) for cell in cells])
    names = tuple(json.loads((folder / "images.json").read_text(encoding="utf-8")))
    file = folder / "classes.json"
    classes = tuple(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else ()
    return Atlas(settings, cells, pictures, found, xy, names, manifest, classes)


def write(atlas: Atlas, out: OutputFolder) -> None:
    """Fill a claimed folder with everything an atlas holds, the manifest last."""
    start = time.monotonic()
    figures: dict[int, bytes] = {}
    for place, level in enumerate(atlas.levels):
        name = "atlas.png" if place == 0 else f"atlas-{level}.png"
        figures[level] = out.write(name, lambda path, level=level: save_figure(atlas.figure(level), path)).read_bytes()  # type: ignore[misc]
        picture = Image.fromarray(atlas.icons(level))
        out.write(f"icons/level-{level}.png", lambda path, picture=picture: picture.save(path, "PNG"))  # type: ignore[misc]
    out.write_json("cells.json", [_entry(cell) for cell in atlas.cells])
    out.write_json("images.json", list(atlas.names))
    if atlas.effects is not None:
        out.write_json("classes.json", list(atlas.classes))
    _write_store(atlas, out.path / "store")
    facts = {
        "model": atlas.manifest["model"],
        **{**atlas.manifest["settings"], "grid": ", ".join(map(str, atlas.levels))},
        "vectors": f"{len(atlas.xy):,}",
        "images": f"{atlas.manifest['images']['used']:,} of {atlas.manifest['images']['source']}",
        "images skipped": len(atlas.manifest["images"]["skipped"]),
        "median score": f"{atlas.manifest['median_score']:.3f}",
        "made with": ", ".join(f"{name} {number}" for name, number in atlas.manifest["versions"].items()),
    }
    title = f"Activation atlas: {atlas.manifest['model']}, {atlas.settings.layer}"
    page = atlas_page(
        title=title, figures=figures, facts=facts, cells=atlas.cells, names=atlas.names, class_name=atlas.class_name
    )
    out.write("index.html", lambda path: path.write_text(page, encoding="utf-8"))
    seconds = {**atlas.manifest["seconds"], "write": round(time.monotonic() - start, 2)}
    out.finish({**atlas.manifest, "seconds": seconds})


def _write_store(atlas: Atlas, path: Path) -> None:
    store = zarr.open_group(str(path), mode="w")
    arrays: dict[str, NDArray[Any]] = {**atlas.sample.arrays(), "xy": atlas.xy}
    for level in atlas.levels:
        numbers = cell_numbers(atlas.xy, level)
        drawn = [cell.row * level + cell.col for cell in atlas.cells if cell.level == level]
        arrays[f"cell-{level}"] = np.where(np.isin(numbers, drawn), numbers, -1)
    for name, values in arrays.items():
        store.create_array(name, data=np.ascontiguousarray(values))


def _entry(cell: Cell) -> dict[str, Any]:
    return {
        "level": cell.level,
        "row": cell.row,
        "col": cell.col,
        "count": cell.count,
        "xy": [round(value, 6) for value in cell.xy],
        "top": [[label, round(effect, 6)] for label, effect in cell.top],
        "exemplars": [list(place) for place in cell.exemplars],
        "score": None if cell.score is None else round(cell.score, 6),
    }


def _cell(entry: Mapping[str, Any], means: Mapping[str, NDArray[np.float32]]) -> Cell:
    level, row, col = entry["level"], entry["row"], entry["col"]
    return Cell(
        level,
        row,
        col,
        entry["count"],
        (entry["xy"][0], entry["xy"][1]),
        means[f"{level}/{row}/{col}"],
        tuple((place[0], place[1], place[2]) for place in entry["exemplars"]),
        tuple((pair[0], pair[1]) for pair in entry["top"]),
        entry["score"],
    )


def _tile(folder: Path, cell: Cell, size: int) -> NDArray[np.uint8]:
    with Image.open(folder / "icons" / f"level-{cell.level}.png") as picture:
        box = (cell.col * size, cell.row * size, (cell.col + 1) * size, (cell.row + 1) * size)
        return np.asarray(picture.crop(box).convert("RGB"))
