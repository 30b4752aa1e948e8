"""An atlas's folder: its cells, icons, arrays, figures and page written, and all of it loaded again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from featviz.errors import UserError
from featviz.progress import Progress, silent
from featviz.run.output import OutputFolder, safe_name
from search.images.image_set import readable
from search.naming.naming import Name

from .explorer import add_names, read_book, write_viewer
from .figure import save_figure
from .grid import Cell, bin_cells, cell_numbers
from .icons import sheet
from .photos import Photographs
from .regions import read_regions
from .result import Atlas
from .sample import Sample
from .settings import Settings
from .store import read_store, write_store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Commands whose folders hold an atlas at their root.
ATLASES = ("build", "classes", "compare", "align")


def load(folder: str | Path) -> Atlas:
    """The atlas that `build` wrote into a folder; a `UserError` where there is no finished one."""
    folder = Path(folder)
    file = folder / "manifest.json"
    if not file.is_file():
        raise UserError(f"{str(folder)!r} holds no finished atlas (no manifest.json).")
    manifest = json.loads(file.read_text(encoding="utf-8"))
    if manifest.get("command") not in ATLASES:
        raise UserError(
            f"{str(folder)!r} was made by `atlas {manifest.get('command')}`, not by {' or '.join(ATLASES)}."
        )
    return load_data(folder, manifest)


def load_data(folder: Path, manifest: Mapping[str, Any], **changed: Any) -> Atlas:
    """What `write_data` wrote; changed: settings other than the manifest's."""
    # Settings that an earlier version knew are passed over.
    known = {field.name for field in fields(Settings)}
    kept = {name: value for name, value in manifest["settings"].items() if name in known}
    settings = Settings(**{**kept, "grid": tuple(kept["grid"]), **changed})
    names = ("vectors", "image", "position", "box", "effects", "xy")
    arrays = read_store(manifest.get("store") or folder / "store", names)
    xy = arrays.pop("xy")
    found = Sample(**arrays)
    means = {
        cell.key: cell.mean
        for cell in bin_cells(xy, found.vectors, found.image, found.position, levels=settings.grid, exemplars=0)
    }
    cells = tuple(_cell(entry, means) for entry in json.loads((folder / "cells.json").read_text(encoding="utf-8")))
    pictures = _tiles(folder / "icons", cells, settings.icon)
    photos = _tiles(folder / "photos", cells, settings.icon) if settings.tiles == "both" else None
    drawn = {int(file.stem): np.asarray(Image.open(file)) for file in (folder / "channels").glob("*.png")}
    images = tuple(json.loads((folder / "images.json").read_text(encoding="utf-8")))
    file = folder / "classes.json"
    classes = tuple(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else ()
    file = folder / "regions.json"
    regions = read_regions(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else ()
    return Atlas(settings, cells, pictures, found, xy, images, manifest, classes, photos, drawn, regions)


def write(
    atlas: Atlas,
    out: OutputFolder,
    *,
    classes: Sequence[int] = (),
    photographs: Photographs | None = None,
    progress: Progress = silent,
) -> None:
    """Fill a claimed folder with everything an atlas holds, the manifest last.

    classes: those through which to draw it too. photographs: of which the page shows those nearest to each cell.
    """
    start = time.monotonic()
    figures = _figures(atlas, classes)
    steps = len(figures) + 2
    progress("writing", 0, steps)
    for done, (name, figure) in enumerate(figures.items(), 1):
        out.write(name, partial(save_figure, figure()))
        progress("writing", done, steps)
    write_data(atlas, out)
    progress("writing", steps - 1, steps)
    write_viewer(atlas.book(photographs), out)
    progress("writing", steps, steps)
    seconds = {**atlas.manifest["seconds"], "write": round(time.monotonic() - start, 2)}
    out.finish({**atlas.manifest, "seconds": seconds})


def write_again(atlas: Atlas, out: OutputFolder) -> None:
    """Write what an atlas's names are shown in into its finished folder: its cells, regions, figures and page."""
    for name, figure in _figures(atlas, ()).items():
        out.write(name, partial(save_figure, figure()))
    write_names(atlas, out)
    book = read_book(out.path / "index.html")
    add_names(book.manifest["maps"][0], atlas)
    book.manifest["facts"]["names"] = atlas.names_told
    write_viewer(book, out)
    out.write_json("manifest.json", dict(atlas.manifest))


def _figures(atlas: Atlas, classes: Sequence[int]) -> Mapping[str, Callable[[], Figure]]:
    """The files of the figures of an atlas: of each level, and through each of the classes."""
    return {
        "atlas.png" if place == 0 else f"atlas-{level}.png": partial(atlas.figure, level)
        for place, level in enumerate(atlas.levels)
    } | {f"class-{safe_name(atlas.class_name(label))}.png": partial(atlas.class_figure, label) for label in classes}


def write_data(atlas: Atlas, out: OutputFolder, folder: str = "", **more: NDArray[Any]) -> None:
    """Write an atlas's cells, sheets of icons, names and arrays into a claimed folder, or into a folder inside it.

    more: further arrays for the store, by name.
    """
    inside = f"{folder}/" if folder else ""
    sheets = {"icons": atlas.pictures, "photos": atlas.photos}
    for name, pictures in sheets.items():
        for level in atlas.levels if pictures is not None else ():
            icons = Image.fromarray(sheet(atlas.cells, pictures, level))  # type: ignore[arg-type]  # not None here
            out.write(f"{inside}{name}/level-{level}.png", partial(icons.save, format="PNG"))
    for channel, picture in sorted(atlas.superstimuli.items()):
        out.write(f"{inside}channels/{channel}.png", partial(Image.fromarray(picture).save, format="PNG"))
    write_names(atlas, out, folder)
    out.write_json(f"{inside}images.json", [readable(name) for name in atlas.names])
    if atlas.effects is not None:
        out.write_json(f"{inside}classes.json", list(atlas.classes))
    _write_store(atlas, atlas.manifest.get("store") or out.path / inside / "store", more)


def write_names(atlas: Atlas, out: OutputFolder, folder: str = "") -> None:
    """Write what an atlas's cells and regions are called, with all else that is known of the cells."""
    inside = f"{folder}/" if folder else ""
    out.write_json(f"{inside}cells.json", [_entry(cell) for cell in atlas.cells])
    out.write_json(f"{inside}regions.json", [asdict(region) for region in atlas.regions])


def _write_store(atlas: Atlas, address: str | Path, more: Mapping[str, NDArray[Any]]) -> None:
    arrays: dict[str, NDArray[Any]] = {**atlas.sample.arrays(), "xy": atlas.xy, **more}
    for level in atlas.levels:
        numbers = cell_numbers(atlas.xy, level)
        drawn = [cell.row * level + cell.col for cell in atlas.cells if cell.level == level]
        arrays[f"cell-{level}"] = np.where(np.isin(numbers, drawn), numbers, -1)
    write_store(address, arrays)


def _entry(cell: Cell) -> dict[str, Any]:
    return {
        "level": cell.level,
        "row": cell.row,
        "col": cell.col,
        "count": cell.count,
        "xy": [round(value, 6) for value in cell.xy],
        "top": [[label, round(effect, 6)] for label, effect in cell.top],
        "exemplars": [list(place) for place in cell.exemplars],
        "nearest": list(cell.nearest),
        "score": None if cell.score is None else round(cell.score, 6),
        "clean": None if cell.clean is None else round(cell.clean, 6),
        "name": None if cell.name is None else asdict(cell.name),
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
        entry.get("clean"),
        tuple(entry["nearest"]),
        Name(**entry["name"]) if entry.get("name") else None,
    )


def _tiles(folder: Path, cells: Sequence[Cell], size: int) -> NDArray[np.uint8]:
    """The cells' pictures (cells, size, size, 3), out of the sheets of their levels."""
    tiles = np.empty((len(cells), size, size, 3), np.uint8)
    for level in dict.fromkeys(cell.level for cell in cells):
        # Not by Image.open: of 160 x 160 icons, it would take our own sheet for a decompression bomb.
        with PngImageFile(folder / f"level-{level}.png") as picture:
            sheet = np.asarray(picture)
        for number, cell in enumerate(cells):
            if cell.level == level:
                rows = slice(cell.row * size, (cell.row + 1) * size)
                tiles[number] = sheet[rows, cell.col * size : (cell.col + 1) * size, :3]
    return tiles
