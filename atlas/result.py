"""An atlas as a result: what it holds, its figures and its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featviz.errors import UserError
from featviz.run.output import OutputFolder

from .explorer import Book, Leaf, book_widget, make_book, viewer_page
from .figure import DPI
from .grid import Cell, cell_numbers
from .icons import sheet
from .panels import Panel, panels_figure
from .photos import Photographs
from .regions import Region
from .sample import Sample
from .settings import LabelledBy, Settings
from .speaking import Speaking, speaking

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Bytes of a page in a notebook: beyond, saving and showing notebooks fails.
NOTEBOOK_LIMIT = 8_000_000
_FRAME = "width:100%;height:720px;border:1px solid #8884;border-radius:6px"


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
            return f"none: {self.manifest.get('names_refused', 'too few of the photographs have a label')}"
        return (
            f"by {about['by']}, chosen on {about['chosen_on']:,} photographs and checked on "
            f"{about['checked_on']:,} others"
        )

    @property
    def labelled_by(self) -> LabelledBy:
        """What its cells are labelled with: names, or classes where names were not looked for."""
        return "names" if self.manifest.get("names") else "classes"

    def labels_told(self, labels: LabelledBy) -> str:
        """What the labels on its figures are, in words; '' where there are none."""
        if labels == "names":
            return f"names: {self.names_told}" if self.manifest.get("names") else ""
        return "" if self._speaks is None else f"labels: {self._speaks.told}"

    @property
    def speaks_for(self) -> dict[str, str]:
        """Cell key -> the class that it changes most; empty where that means nothing, or no class has a name."""
        if self._speaks is None or not self.classes:
            return {}
        return {cell.key: self.class_name(cell.top[0][0]) for cell in self.cells if cell.top}

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

    def panel(self, level: int | None = None, *, labelled_by: LabelledBy | None = None, **options: Any) -> Panel:
        """The cells of a level for a figure, labelled: cells and regions with their names, as far as they have any.

        Or with the classes that cells change most, if those mean anything. labelled_by: None for its own rule.
        """
        labelled_by = labelled_by or self.labelled_by
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
        regions = [(region.name.text, region.xy, region.share) for region in far]
        if labelled_by == "classes":
            labels, regions = self.speaks_for, []
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
            caption += f"\n{self.labels_told(self.labelled_by)}"
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
        from .files import write  # it takes atlases apart, so it comes after them

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


def _said(score: float | None) -> str:
    return "no icons drawn" if score is None else f"{score:.3f}"
