"""The diagram as code: images -> vectors -> layout -> cells -> icons -> page."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featviz.effects import ClassEffects, class_effects
from featviz.errors import UserError
from featviz.layers import find_layer
from featviz.maximize import generator_for
from featviz.models import Model
from featviz.output import Arrays, OutputFolder
from featviz.progress import Progress, silent
from featviz.trunk import Trunk
from search.decode import central_view
from search.images import Images, open_images

from .grid import Cell, bin_cells
from .icons import draw_icons, whitener
from .project import Floats, Reducer, check_vectors, named_reducer, project
from .result import Atlas, Settings, load, write
from .sample import Sample, check_spatial, sample

# Images on which the effects' linearity is measured.
_CHECKED = 16
Keep = Callable[[str, Callable[[], Arrays]], Arrays]


def build(
    model: Model,
    layer: str | None,
    images: str | Path | Images,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    reducer: str | Reducer = "umap",
    workers: int | None = None,
    progress: Progress = silent,
    **settings: Any,
) -> Atlas:
    """Build the activation atlas of a layer (None: the model's default) over images.

    images: what `search.open_images` takes. reducer: `umap`, `tsne`, `pca` or a function, as `project` takes it.
    settings: the other fields of `Settings`: grid, icon, steps, samples, per_image, min_count, attempts, lr, power,
    ridge, effects, seed. With `out`, the atlas is written there; work that an interrupted run of the same settings left
    there is not done again, and a folder with other settings is refused.

    Carter, Armstrong, Schubert, Johnson and Olah 2019, "Activation Atlas", Distill.
    Raises `UserError` for anything that cannot work, before pictures are drawn.
    """
    reduce, name = named_reducer(reducer)
    run = _Run(model, open_images(images), Settings(layer=_checked_layer(model, layer), reducer=name, **settings))
    folder = None if out is None else OutputFolder.claim(out, run.identity, overwrite=overwrite)
    if folder is not None and folder.finished:
        return load(folder.path)
    keep: Keep = folder.arrays if folder is not None else lambda name, compute: compute()
    clock = Clock()

    vectors, report = run.sample(keep, workers, progress)
    clock.lap("sample")
    xy = run.layout(vectors, reduce, keep, progress)
    clock.lap("layout")
    cells, pictures = run.icons(run.cells(vectors, xy), vectors, keep, progress)
    clock.lap("icons")

    manifest = run.manifest(cells, xy, report, clock)
    classes = model.labels if vectors.effects is not None else ()
    atlas = Atlas(run.settings, cells, pictures, vectors, xy, run.images.names, manifest, classes)
    if folder is not None:
        write(atlas, folder)
    return atlas


@dataclass(frozen=True)
class _Run:
    """The stages of one build; each keeps what it made, so that an interrupted run goes on behind it."""

    model: Model
    images: Images
    settings: Settings

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "command": "build",
            "settings": asdict(self.settings),
            "weights": self.model.fingerprint,
            "images": self.images.fingerprint,
        }

    def sample(self, keep: Keep, workers: int | None, progress: Progress) -> tuple[Sample, dict[str, Any]]:
        """The vectors, and what the manifest says of the images."""
        wanted = self.settings

        def compute() -> Arrays:
            effects = class_effects(self.model, wanted.layer) if wanted.effects else None
            found, scanned, bad = sample(
                self.model,
                wanted.layer,
                self.images,
                samples=wanted.samples,
                per_image=wanted.per_image,
                seed=wanted.seed,
                effects=effects,
                workers=workers,
                progress=progress,
            )
            check_vectors(found.vectors, wanted.reducer)
            report = {
                "found": len(self.images),
                "used": scanned.images,
                "views": scanned.views,
                "nonfinite_vectors": bad,
                "skipped": [asdict(entry) for entry in scanned.skipped],
            }
            if effects is not None:
                report["effects_linearity"] = self._linearity(effects)
            known = {name: values for name, values in vars(found).items() if values is not None}
            return {**known, "report": np.array(json.dumps(report))}

        kept = dict(keep("sample", compute))
        report = json.loads(str(kept.pop("report")))
        return Sample(**kept), report

    def _linearity(self, effects: ClassEffects) -> float | None:
        """How well effects predict what happens: the correlation with the logits' changes at some random positions.

        Each image's activation is scaled by 0.9 at one position; over all classes and images. None where too few of
        the images can be opened to say.
        """
        generator = generator_for(self.settings.seed, "linearity of effects")
        _, rows, columns = effects.trunk.map_size(self.settings.layer)
        views = _first_views(self.images, self.model, _CHECKED)
        if len(views) < 2:
            return None
        places = [torch.randint(limit, (len(views),), generator=generator) for limit in (rows, columns)]
        predicted, measured = effects.linearity(torch.stack(views), torch.stack(places, 1))
        found = float(torch.corrcoef(torch.stack([predicted.flatten(), measured.flatten()]))[0, 1])
        return round(found, 4) if np.isfinite(found) else None

    def layout(self, found: Sample, reduce: Reducer, keep: Keep, progress: Progress) -> Floats:
        stage = f"layout ({self.settings.reducer})"
        progress(stage, 0, 1)
        xy = keep("layout", lambda: {"xy": project(found.vectors, reduce, seed=self.settings.seed)})["xy"]
        progress(stage, 1, 1)
        return xy

    def cells(self, found: Sample, xy: Floats) -> tuple[Cell, ...]:
        levels, least = self.settings.grid, self.settings.min_count
        cells = bin_cells(
            xy, found.vectors, found.image, found.position, levels=levels, min_count=least, effects=found.effects
        )
        if not cells:
            raise UserError(f"no cell holds {least} vectors: take a coarser --grid or more --samples.")
        return cells

    def icons(
        self, cells: tuple[Cell, ...], found: Sample, keep: Keep, progress: Progress
    ) -> tuple[tuple[Cell, ...], Any]:
        """The cells with their scores, and their pictures."""
        wanted = self.settings
        pictures, scores = draw_icons(
            self.model,
            wanted.layer,
            cells,
            whitener(found.vectors, ridge=wanted.ridge),
            icon=wanted.icon,
            steps=wanted.steps,
            attempts=wanted.attempts,
            lr=wanted.lr,
            power=wanted.power,
            seed=wanted.seed,
            keep=keep,
            progress=progress,
        )
        scored = (replace(cell, score=float(score)) for cell, score in zip(cells, scores, strict=True))
        return tuple(scored), pictures

    def manifest(self, cells: tuple[Cell, ...], xy: Floats, report: dict[str, Any], clock: Clock) -> dict[str, Any]:
        levels = self.settings.grid
        return {
            "command": "build",
            "model": self.model.name,
            "settings": asdict(self.settings),
            "versions": versions(),
            "images": {"source": Path(self.images.source).name, "notes": list(self.images.notes), **report},
            "vectors": len(xy),
            "cells": {str(level): sum(cell.level == level for cell in cells) for level in levels},
            "median_score": float(np.median([cell.score for cell in cells])),
            "seconds": clock.laps,
            "identity": self.identity,
        }


def _first_views(images: Images, model: Model, count: int) -> list[Tensor]:
    """Central views of the first images that can be opened."""
    views: list[Tensor] = []
    for number in range(len(images)):
        if len(views) == count:
            break
        with suppress(Exception):  # Pillow's decoders raise almost anything; the scan says which images are damaged
            views.append(central_view(images.open(number), model.preprocess))
    return views


class Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        now = time.monotonic()
        self.laps[stage] = round(now - self._last, 2)
        self._last = now


def _checked_layer(model: Model, layer: str | None) -> str:
    """The layer given, else the model's own default; a `UserError` where it is none or has no positions."""
    name = layer or model.default_layer
    if name is None:
        raise UserError(f"{model.name} has no default layer; `atlas layers {model.name}` lists them.")
    find_layer(model.network, name)
    check_spatial(Trunk(model, [name], fold=False), name)
    return name


def versions() -> dict[str, str]:
    """Versions of this package and of those that shape its results."""
    packages = ("activation-atlas", "torch", "timm", "umap-learn", "numpy", "scikit-learn", "pillow", "matplotlib")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}
