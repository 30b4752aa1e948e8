"""An atlas as a result: what it holds, its figure, and the folder it is written to and loaded from."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property, partial
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from featviz.errors import UserError
from featviz.output import OutputFolder, safe_name
from featviz.progress import Progress, silent
from search.image_set import readable
from search.naming import Name

from .explorer import Book, Leaf, add_names, book_widget, make_book, read_book, viewer_page, write_viewer
from .figure import DPI, save_figure
from .grid import Cell, bin_cells, cell_numbers
from .icons import sheet
from .panels import Panel, panels_figure
from .photos import Photographs
from .regions import Region, read_regions
from .sample import Sample
from .settings import Settings
from .speaking import Speaking, speaking
from .store import read_store, write_store

# Bytes of a page in a notebook: beyond, saving and showing notebooks fails.
NOTEBOOK_LIMIT = 8_000_000
_FRAME = "width:100%;height:720px;border:1px solid #8884;border-radius:6px"
# Commands whose folders hold an atlas at their root.
ATLASES = ("build", "classes", "compare", "align")


@dataclass(frozen=True)
class Atlas:
    """An activation atlas.

    `cells`: every level's cells that got an icon; `pictures`: (cells, icon, icon, 3) their icons; `sample`: the vectors
    behind them; `xy`: (n, 2) their layout; `names`: the images' names by number; `manifest`: how it was made;
    `classes`: the classes' names, where effects on them are known; `photos`: like `pictures`, the parts of photographs
    nearest to the cells' means, where both are wanted; `superstimuli`: channel -> (side, side, 3), of those that cells
    name, where they are wanted; `regions`: what parts of it are called, where names hold.
    """

    settings: Settings
    cells: tuple[Cell, ...]
    pictures: NDArray[np.uint8]
    sample: Sample
    xy: NDArray[np.float32]
    names: tuple[str, ...]
    manifest: Mapping[str, Any]
    classes: tuple[str, ...] = ()
    photos: NDArray[np.uint8] | None = None
    superstimuli: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()

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

    def cell_effects(self, label: int, level: int | None = None) -> dict[str, float]:
        """Cell key -> the mean effect of the cell's activations on a class; a `UserError` where that is not known."""
        level = self._level(level)
        if self.effects is None:
            raise UserError("this atlas knows no effects on classes: it was built without, or its network has none.")
        numbers = cell_numbers(self.xy, level)
        column = self.effects[:, label].astype(np.float64)
        sums = np.bincount(numbers, weights=column, minlength=level**2) / np.bincount(numbers, minlength=level**2).clip(
            1
        )
        return {cell.key: float(sums[cell.row * level + cell.col]) for cell in self.cells if cell.level == level}

    @property
    def names_told(self) -> str:
        """Where the names come from and how they were checked, in words; why there are none where there are none."""
        about = self.manifest.get("names")
        if not about:
            return "no names: too few of the photographs have a label"
        return (
            f"names: by {about['by']}, chosen on {about['chosen_on']:,} photographs and checked on "
            f"{about['checked_on']:,} others"
        )

    @property
    def labels_told(self) -> str:
        """What the labels on its figures are, in words; '' where there are none."""
        if self.manifest.get("names"):
            return self.names_told
        return "" if self._speaks is None else f"labels: {self._speaks.told}"

    @property
    def _speaks(self) -> Speaking | None:
        """How far the classes that cells change most can be trusted; None where they mean nothing."""
        return self.speaking if self.speaking is not None and self.speaking.worth_saying else None

    @cached_property
    def speaking(self) -> Speaking | None:
        """How far the classes that cells change most can be trusted, at the finest grid; None without effects."""
        if self.effects is None:
            return None
        return speaking(self.effects, self.xy, self.sample.image, max(self.levels))

    def icons(self, level: int | None = None) -> NDArray[np.uint8]:
        """All icons of a level in one RGBA sheet; empty cells are transparent."""
        return sheet(self.cells, self.pictures, self._level(level))

    def panel(self, level: int | None = None, **options: Any) -> Panel:
        """The cells of a level for a figure, labelled: cells and regions with their names, as far as they have any.

        Where names were not looked for, with the classes that cells change most, if those mean anything.
        """
        level = self._level(level)
        shown = [number for number, cell in enumerate(self.cells) if cell.level == level]
        pictures = self.pictures[shown]
        if self.photos is not None:
            pictures = np.concatenate([pictures, self.photos[shown]], 1)
        cells = [self.cells[number] for number in shown]
        far = [region for region in self.regions if region.level == 0]
        # What stands over a region need not stand in each of its cells.
        said = {(region.grid, *place): region.name.text for region in far for place in region.cells}
        labels = {
            cell.key: cell.name.text
            for cell in cells
            if cell.name is not None and said.get((level, cell.row, cell.col)) != cell.name.text
        }
        if not self.manifest.get("names") and self._speaks is not None:
            labels = {cell.key: self.class_name(cell.top[0][0]) for cell in cells if cell.top}
        regions = [(region.name.text, region.xy, region.share) for region in far]
        return Panel(cells, pictures, level, **{"labels": labels, "regions": regions, **options})

    def figure(self, level: int | None = None) -> Figure:
        """The atlas of a level (default: the first) as a matplotlib figure."""
        panel = self.panel(level)
        caption = f"{self.caption(panel.level)}; icon area by number of activations"
        scores = [cell.score for cell in panel.cells if cell.score is not None]
        if scores:
            score = "score (cosine of the icon's activation with the cell's whitened mean, over noisy views): median"
            caption += f"\n{score} {np.median(scores):.2f}"
        if panel.labels:
            caption += f"\n{self.labels_told}"
        return panels_figure([panel], title=self._title, caption=caption)

    def class_figure(self, label: int, level: int | None = None) -> Figure:
        """The atlas through one class: icons as opaque as their cells speak for it (left), and against it (right)."""
        level = self._level(level)
        effects = self.cell_effects(label, level)
        limit = max(map(abs, effects.values())) or 1.0
        panels = [
            self.panel(
                level,
                heading=f"{word} {self.class_name(label)}",
                opacity={key: max(0.0, sign * value / limit) for key, value in effects.items()},
                labels={},
                regions=(),
            )
            for word, sign in (("for", 1), ("against", -1))
        ]
        caption = f"{self.caption(level)}\nopacity: the mean effect of a cell's activations, {limit:.3g} is opaque"
        return panels_figure(panels, title=self._title, caption=caption)

    def book(self, photographs: Photographs | None = None) -> Book:
        """What the explorer's page shows of the atlas; photographs: of which it shows those nearest to each cell."""
        manifest = self.manifest
        facts = {
            "model": manifest["model"],
            **{**asdict(self.settings), "grid": ", ".join(map(str, self.levels))},
            "vectors": f"{len(self.xy):,}",
            "images": f"{manifest['images']['used']:,} of {manifest['images']['source']}",
            "images skipped": len(manifest["images"]["skipped"]),
            "median score": _said(manifest.get("median_score")),
            "names": self.names_told,
            "classes": "no effects on classes" if self.speaking is None else self.speaking.told,
            "made with": ", ".join(f"{name} {number}" for name, number in manifest.get("versions", {}).items()),
        }
        leaf = Leaf(self.settings.layer, self, photographs=photographs)
        title = f"Activation atlas: {manifest['model']}, {self.settings.layer}"
        return make_book([leaf], title=title, facts=facts)

    def widget(self) -> Any:
        """The explorer as a widget whose `view` and `selected_cell` are synced (extra: notebook)."""
        return book_widget(self.book())

    def _repr_png_(self) -> bytes:
        stream = BytesIO()
        self.figure().savefig(stream, format="png", dpi=DPI)
        return stream.getvalue()

    def _repr_html_(self) -> str:
        """The explorer's page in a frame of a notebook's, in as many of the coarser levels as a notebook can hold."""
        shown = f"<p>{escape(self._title)}: too large for a notebook; save() writes it to be opened in a browser.</p>"
        for count in range(1, len(self.levels) + 1):
            page = viewer_page(self._coarse(count).book())
            frame = f'<iframe srcdoc="{escape(page)}" style="{_FRAME}" title="{escape(self._title)}"></iframe>'
            if len(frame) > NOTEBOOK_LIMIT:
                break
            shown = frame
        return shown

    def _coarse(self, count: int) -> Atlas:
        """The coarsest levels alone."""
        kept = tuple(sorted(self.levels)[:count])
        part = [number for number, cell in enumerate(self.cells) if cell.level in kept]
        cells = tuple(self.cells[number] for number in part)
        return replace(self, settings=replace(self.settings, grid=kept), cells=cells, pictures=self.pictures[part])

    @property
    def _title(self) -> str:
        return f"Activation atlas of {self.manifest['model']}, layer {self.settings.layer}"

    def caption(self, level: int) -> str:
        """What lies behind a level, in words."""
        shown = sum(cell.level == level for cell in self.cells)
        return (
            f"{len(self.xy):,} activations of {self.manifest['images']['used']:,} images, {self.settings.reducer}; "
            f"{shown} of {level} × {level} cells"
        )

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the atlas as the command line does; returns the folder.

        Raises `UserError` for a part of another result, such as a class's panel: give that one's function `out`.
        """
        if self.manifest.get("command") != "build":
            raise UserError(
                "this atlas is a part of another result: what made it (class_atlas, compare, align) writes it, with "
                "`out`."
            )
        out = OutputFolder.claim(folder, self.manifest["identity"], overwrite=overwrite)
        if not out.finished:
            # The vectors go into the folder: another atlas's store is its own.
            manifest = {name: value for name, value in self.manifest.items() if name != "store"}
            write(replace(self, manifest=manifest), out)
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


def _said(score: float | None) -> str:
    return "no icons drawn" if score is None else f"{score:.3f}"


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
