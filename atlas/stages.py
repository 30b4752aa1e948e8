"""The stages that every atlas goes through: images -> vectors -> layout -> cells -> icons."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featviz.errors import UserError
from featviz.network.default_layer import default_layer
from featviz.network.effects import usual_activation
from featviz.network.layers import LISTED, find_layer
from featviz.network.models import Model
from featviz.network.trunk import Trunk
from featviz.progress import Progress, silent
from featviz.run.engine import LOCAL, Engine
from featviz.run.keep import NOWHERE, Keep
from featviz.seeds import generator_for
from search.images.image_set import first_views
from search.images.images import Images

from .grid import Cell, bin_cells
from .icons import draw_icons, whitener
from .project import Floats, Reducer, check_vectors, project, umap_layout
from .sample import Sample, check_spatial, sample
from .settings import Settings

# Images whose mean activation is the usual one.
_USUAL = 64


@dataclass(frozen=True)
class Stages:
    """The stages of one command; each keeps what it made, so that an interrupted run goes on behind it."""

    model: Model
    images: Images
    settings: Settings
    keep: Keep = NOWHERE
    workers: int | None = None
    progress: Progress = silent
    engine: Engine = LOCAL

    def sample(self) -> tuple[Sample, dict[str, Any]]:
        """The vectors, and what the manifest says of the images."""
        wanted = self.settings

        found, scanned, bad = sample(
            self.model,
            wanted.layer,
            self.images,
            samples=wanted.samples,
            per_image=wanted.per_image,
            seed=wanted.seed,
            effects=self.usual() if wanted.effects else None,
            precision=wanted.precision,
            compiled=wanted.compiled,
            workers=self.workers,
            keep=self.keep,
            engine=self.engine,
            progress=self.progress,
        )
        check_vectors(found.vectors, wanted.reducer)
        report = {
            "found": len(self.images),
            "used": scanned.images,
            "views": scanned.views,
            "nonfinite_vectors": bad,
            "skipped": [asdict(entry) for entry in scanned.skipped],
        }
        return found, report

    def usual(self) -> Tensor:
        """(c,) the layer's mean over some of the images, drawn by the seed: what effects are measured against."""
        generator = generator_for(self.settings.seed, "usual activation")
        order = torch.randperm(len(self.images), generator=generator).tolist()
        views = first_views(self.images, self.model.preprocess, _USUAL, order)
        return usual_activation(self.model, self.settings.layer, views)

    def layout(self, found: Sample, reduce: Reducer) -> Floats:
        """(n, 2) the vectors' places in the unit square."""
        own, totals = f"layout ({self.settings.reducer})", dict[str, int]()

        def told(stage: str, done: int, total: int) -> None:
            totals[stage] = total
            self.progress(stage, done, total)

        if reduce is not umap_layout:  # which tells by itself, of its neighbours first
            told(own, 0, 1)
        xy = self.keep.arrays(
            "layout", lambda: {"xy": project(found.vectors, reduce, seed=self.settings.seed, progress=told)}
        )["xy"]
        whole = totals.get(own, 1)
        told(own, whole, whole)
        return xy

    def cells(self, found: Sample, xy: Floats) -> tuple[Cell, ...]:
        """The cells that hold enough vectors; a `UserError` where there is none."""
        levels, least = self.settings.grid, self.settings.min_count
        cells = bin_cells(
            xy, found.vectors, found.image, found.position, levels=levels, min_count=least, effects=found.effects
        )
        if not cells:
            raise UserError(f"no cell holds {least} vectors: take a coarser --grid or more --samples.")
        return cells

    def icons(
        self,
        cells: tuple[Cell, ...],
        vectors: Floats,
        *,
        channels: Sequence[int] | None = None,
    ) -> tuple[tuple[Cell, ...], NDArray[np.uint8]]:
        """The cells with their scores, and their pictures, whitened by all of `vectors`.

        channels: of the layer, those that the vectors hold; None for all.
        """
        wanted = self.settings
        pictures, scores, clean = draw_icons(
            self.model,
            wanted.layer,
            cells,
            whitener(vectors, ridge=wanted.ridge),
            channels=channels,
            icon=wanted.icon,
            steps=wanted.steps,
            attempts=wanted.attempts,
            lr=wanted.lr,
            power=wanted.power,
            seed=wanted.seed,
            precision=wanted.precision,
            compiled=wanted.compiled,
            keep=self.keep,
            engine=self.engine,
            progress=self.progress,
        )
        each = zip(cells, scores.tolist(), clean.tolist(), strict=True)
        return tuple(replace(cell, score=robust, clean=plain) for cell, robust, plain in each), pictures


def median_score(cells: Sequence[Cell]) -> float | None:
    """The middle of the icons' scores, None where none were drawn."""
    scores = [cell.score for cell in cells if cell.score is not None]
    return float(np.median(scores)) if scores else None


def checked_layer(model: Model, layer: str | None, *, single: bool = False) -> str:
    """The layer given, else the model's own default; a `UserError` where it is none or has no positions.

    single: one position, such as that of features or logits, is enough.
    """
    name = layer or model.default_layer
    if name is None:
        convolutions = [each for each, module in model.network.named_modules() if isinstance(module, nn.Conv2d)]
        likely = default_layer(model.network, ()) or next(reversed(convolutions), None)
        example = f", such as {likely}" if likely else ""
        raise UserError(f"{model.name} has no default layer: name one{example}. {LISTED}")
    find_layer(model.network, name)
    trunk = Trunk(model, [name], fold=False)
    trunk.map_size(name) if single else check_spatial(trunk, name)
    return name


class Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        now = time.monotonic()
        self.laps[stage] = round(now - self._last, 2)
        self._last = now


def versions() -> dict[str, str]:
    """Versions of this package and of those that shape its results."""
    packages = ("activation-atlas", "torch", "timm", "umap-learn", "numpy", "scikit-learn", "pillow", "matplotlib")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}
