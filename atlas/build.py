"""The diagram as code: images -> vectors -> layout -> cells -> icons -> page."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from featviz.errors import UserError, unknown
from featviz.layers import find_layer
from featviz.models import Model
from featviz.output import Arrays, OutputFolder
from featviz.progress import Progress, silent
from featviz.trunk import Trunk
from search.images import Images, open_images

from .explorer import atlas_page
from .figure import atlas_figure, save_figure
from .grid import Cell, bin_cells, cell_numbers
from .icons import draw_icons, sheet, whitener
from .project import REDUCERS, check_vectors, project
from .sample import Sample, check_spatial, sample


@dataclass(frozen=True)
class Settings:
    """What an atlas depends on besides the weights and the images."""

    layer: str
    grid: tuple[int, ...] = (10, 20)
    icon: int = 80
    steps: int = 128
    samples: int = 8000
    per_image: int = 8
    min_count: int = 5
    reducer: str = "umap"
    attempts: int = 1
    lr: float = 0.15
    power: float = 4.0
    ridge: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.grid or min(self.grid) < 1 or max(self.grid) > 1000:
            raise UserError(f"--grid takes sizes from 1 to 1000, such as 20 or 20,40; got {list(self.grid)}.")
        for name, lowest in (("icon", 16), ("steps", 1), ("samples", 1), ("per_image", 1), ("attempts", 1)):
            if getattr(self, name) < lowest:
                option = name.replace("_", "-")
                raise UserError(f"--{option} starts at {lowest}; got {getattr(self, name)}.")
        if self.reducer not in REDUCERS:
            raise unknown("reducer", self.reducer, list(REDUCERS))
        object.__setattr__(self, "grid", tuple(dict.fromkeys(self.grid)))


@dataclass(frozen=True)
class Atlas:
    """An activation atlas.

    `cells`: every level's cells that got an icon; `pictures`: (cells, icon, icon, 3) their icons; `sample`: the vectors
    behind them; `xy`: (n, 2) their layout; `names`: the images' names by number; `manifest`: how it was made.
    """

    settings: Settings
    cells: tuple[Cell, ...]
    pictures: NDArray[np.uint8]
    sample: Sample
    xy: NDArray[np.float32]
    names: tuple[str, ...]
    manifest: Mapping[str, Any]

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
        return atlas_figure(self.cells, self.pictures, level, title=title, caption=caption)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the atlas as the command line does; returns the folder."""
        out = OutputFolder.claim(folder, self.manifest["identity"], overwrite=overwrite)
        if not out.finished:
            _write(self, out)
        return out.path

    def _level(self, level: int | None) -> int:
        if level is not None and level not in self.levels:
            raise UserError(f"this atlas has no level {level}; it has {', '.join(map(str, self.levels))}.")
        return self.levels[0] if level is None else level


def build(
    model: Model,
    layer: str | None,
    images: str | Path | Images,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
    **settings: Any,
) -> Atlas:
    """Build the activation atlas of a layer (None: the model's default) over images.

    `settings` are the fields of `Settings`: grid, icon, steps, samples, per_image, min_count, reducer, attempts, seed.
    With `out`, the atlas is written there; work that an interrupted run of the same settings left there is not done
    again, and a folder with other settings is refused.

    Carter, Armstrong, Schubert, Johnson and Olah 2019, "Activation Atlas", Distill.
    Raises `UserError` for anything that cannot work, before pictures are drawn.
    """
    chosen = Settings(layer=default_layer(model, layer), **settings)
    find_layer(model.network, chosen.layer)
    check_spatial(Trunk(model, [chosen.layer], fold=False), chosen.layer)
    images = open_images(images)
    identity = {
        "command": "build",
        "settings": asdict(chosen),
        "weights": model.fingerprint,
        "images": images.fingerprint,
    }
    folder = None if out is None else OutputFolder.claim(out, identity, overwrite=overwrite)
    if folder is not None and folder.finished:
        return load(folder.path)
    keep = folder.arrays if folder is not None else lambda name, compute: compute()
    clock = _Clock()

    drawn_from, report = _sampled(model, images, chosen, keep, workers, progress)
    clock.lap("sample")
    progress(f"layout ({chosen.reducer})", 0, 1)
    xy = keep("layout", lambda: {"xy": project(drawn_from.vectors, chosen.reducer, seed=chosen.seed)})["xy"]
    progress(f"layout ({chosen.reducer})", 1, 1)
    clock.lap("layout")
    cells = bin_cells(
        xy, drawn_from.vectors, drawn_from.image, drawn_from.position, levels=chosen.grid, min_count=chosen.min_count
    )
    if not cells:
        raise UserError(f"no cell holds {chosen.min_count} vectors: take a coarser --grid or more --samples.")
    pictures, scores = draw_icons(
        model,
        chosen.layer,
        cells,
        whitener(drawn_from.vectors, ridge=chosen.ridge),
        icon=chosen.icon,
        steps=chosen.steps,
        attempts=chosen.attempts,
        lr=chosen.lr,
        power=chosen.power,
        seed=chosen.seed,
        keep=keep,
        progress=progress,
    )
    cells = tuple(replace(cell, score=float(score)) for cell, score in zip(cells, scores, strict=True))
    clock.lap("icons")

    manifest = {
        "command": "build",
        "model": model.name,
        "settings": asdict(chosen),
        "versions": versions(),
        "images": {"source": images.source, "notes": list(images.notes), **report},
        "vectors": len(xy),
        "cells": {str(level): sum(cell.level == level for cell in cells) for level in chosen.grid},
        "median_score": float(np.median(scores)),
        "seconds": clock.laps,
        "identity": identity,
    }
    atlas = Atlas(chosen, cells, pictures, drawn_from, xy, images.names, manifest)
    if folder is not None:
        _write(atlas, folder)
    return atlas


def default_layer(model: Model, layer: str | None) -> str:
    """The layer given, else the model's own default; a `UserError` where it has none."""
    if layer is None and model.default_layer is None:
        raise UserError(f"{model.name} has no default layer; `atlas layers {model.name}` lists them.")
    return layer or str(model.default_layer)


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
    arrays = {name: np.asarray(store[name]) for name in ("vectors", "image", "position", "box")}
    found, xy = Sample(**arrays), np.asarray(store["xy"])
    means = {
        cell.key: cell.mean
        for cell in bin_cells(xy, found.vectors, found.image, found.position, levels=settings.grid, exemplars=0)
    }
    cells = tuple(_cell(entry, means) for entry in json.loads((folder / "cells.json").read_text(encoding="utf-8")))
    pictures = np.stack([_tile(folder, cell, settings.icon) for cell in cells])
    names = tuple(json.loads((folder / "images.json").read_text(encoding="utf-8")))
    return Atlas(settings, cells, pictures, found, xy, names, manifest)


def versions() -> dict[str, str]:
    """Versions of this package and of those that shape its results."""
    packages = ("activation-atlas", "torch", "timm", "umap-learn", "numpy", "scikit-learn", "pillow", "matplotlib")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}


class _Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        now = time.monotonic()
        self.laps[stage] = round(now - self._last, 2)
        self._last = now


def _sampled(
    model: Model, images: Images, settings: Settings, keep: Any, workers: int | None, progress: Progress
) -> tuple[Sample, dict[str, Any]]:
    """The sample, from the draft or by a scan, and what the manifest says of the images."""

    def compute() -> Arrays:
        found, scanned, bad = sample(
            model,
            settings.layer,
            images,
            samples=settings.samples,
            per_image=settings.per_image,
            seed=settings.seed,
            workers=workers,
            progress=progress,
        )
        check_vectors(found.vectors, settings.reducer)
        report = {
            "found": len(images),
            "used": scanned.images,
            "views": scanned.views,
            "nonfinite_vectors": bad,
            "skipped": [asdict(entry) for entry in scanned.skipped],
        }
        return {**vars(found), "report": np.array(json.dumps(report))}

    kept = dict(keep("sample", compute))
    report = json.loads(str(kept.pop("report")))
    return Sample(**kept), report


def _write(atlas: Atlas, out: OutputFolder) -> None:
    start = time.monotonic()
    figures: dict[int, bytes] = {}
    for place, level in enumerate(atlas.levels):
        name = "atlas.png" if place == 0 else f"atlas-{level}.png"
        figures[level] = out.write(name, lambda path, level=level: save_figure(atlas.figure(level), path)).read_bytes()  # type: ignore[misc]
        picture = Image.fromarray(atlas.icons(level))
        out.write(f"icons/level-{level}.png", lambda path, picture=picture: picture.save(path, "PNG"))  # type: ignore[misc]
    out.write_json("cells.json", [_entry(cell) for cell in atlas.cells])
    out.write_json("images.json", list(atlas.names))
    _write_store(atlas, out.path / "store")
    facts = {
        "model": atlas.manifest["model"],
        **atlas.manifest["settings"],
        "vectors": f"{len(atlas.xy):,}",
        "images": f"{atlas.manifest['images']['used']:,} of {atlas.manifest['images']['source']}",
        "images skipped": len(atlas.manifest["images"]["skipped"]),
        "median score": f"{atlas.manifest['median_score']:.3f}",
        "made with": ", ".join(f"{name} {number}" for name, number in atlas.manifest["versions"].items()),
    }
    title = f"Activation atlas: {atlas.manifest['model']}, {atlas.settings.layer}"
    page = atlas_page(title=title, figures=figures, facts=facts, cells=atlas.cells, names=atlas.names)
    out.write("index.html", lambda path: path.write_text(page, encoding="utf-8"))
    seconds = {**atlas.manifest["seconds"], "write": round(time.monotonic() - start, 2)}
    out.finish({**atlas.manifest, "seconds": seconds})


def _write_store(atlas: Atlas, path: Path) -> None:
    store = zarr.open_group(str(path), mode="w")
    arrays: dict[str, NDArray[Any]] = {**vars(atlas.sample), "xy": atlas.xy}
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
        "top": [list(pair) for pair in cell.top],
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
