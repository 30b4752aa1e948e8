"""The diagram as code: images -> vectors -> layout -> cells -> icons -> page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from featviz.errors import UserError
from featviz.network.models import Model
from featviz.progress import Progress, silent
from featviz.run.engine import LOCAL, Engine
from featviz.run.keep import NOWHERE
from search.images.images import Images, open_images

from .channels import draw_superstimuli, named_channels
from .claim import claim, identify
from .files import load, write
from .grid import Cell
from .label import named
from .photos import Photographs
from .project import Floats, Reducer, named_reducer
from .result import Atlas
from .settings import Settings
from .stages import Clock, Stages, checked_layer, median_score, versions
from .store import check_store, claim_store, store_address


def build(
    model: Model,
    layer: str | None,
    images: str | Path | Images,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    reducer: str | Reducer = "umap",
    classes: Sequence[str | int] = (),
    store: str | None = None,
    workers: int | None = None,
    engine: Engine = LOCAL,
    progress: Progress = silent,
    **settings: Any,
) -> Atlas:
    """Build the activation atlas of a layer (None: the model's default) over images.

    images: what `search.open_images` takes. reducer: `umap`, `tsne`, `pca` or a function, as `project` takes it.
    classes: names or numbers of classes, through each of which the atlas is shown once more, by effect. settings: the
    other fields of `Settings`: grid, icon, steps, samples, per_image, min_count, attempts, lr, power, ridge, effects,
    tiles, cards, precision, compiled, seed. store: an address for the vectors that fsspec knows, such as
    s3://bucket/atlas, instead of `store/` inside `out`. engine: where images are read and icons drawn. With `out`, the
    atlas is written there; work that an interrupted run of the same settings left there is not done again, and a folder
    with other settings is refused.

    Carter, Armstrong, Schubert, Johnson and Olah 2019, "Activation Atlas", Distill.
    Raises `UserError` for anything that cannot work, before pictures are drawn.
    """
    reduce, name = named_reducer(reducer)
    wanted = Settings(layer=layer or "", reducer=name, **settings)
    wanted = replace(wanted, layer=checked_layer(model, layer, single=wanted.tiles == "photos"))
    labels = [model.class_index(each) for each in classes]
    source = open_images(images, model.preprocess)
    if store is not None:
        if out is None:
            raise UserError("a store holds the vectors of an atlas that is written: give --out too.")
        store = store_address(store)
    more = {name: value for name, value in (("classes", labels), ("store", store)) if value}
    identity = identify("build", model, source, settings=asdict(wanted), **more)
    if store:
        check_store(store, identity)
    folder = claim(out, identity, model, source, overwrite=overwrite)
    if folder is not None and folder.finished:
        return load(folder.path)
    if store:
        claim_store(store, identity)
    run = Stages(model, source, wanted, folder or NOWHERE, workers, progress, engine)
    clock = Clock()

    found, report = run.sample()
    clock.lap("sample")
    xy = run.layout(found, reduce)
    clock.lap("layout")
    cells, tiles = run.cells(found, xy), []
    if wanted.tiles != "photos":
        cells, pictures = run.icons(cells, found.vectors)
        tiles.append(pictures)
    clock.lap("icons")
    photographs = None
    if folder is not None or wanted.tiles != "icons":
        photographs = Photographs.of(model, wanted.layer, source, found, seed=wanted.seed)
        if wanted.tiles != "icons":
            tiles.append(photographs.of_cells(cells, wanted.icon, progress=progress))
        clock.lap("photos")
    superstimuli = {}
    if wanted.cards:
        superstimuli = draw_superstimuli(run, named_channels(cells, found.vectors))
        clock.lap("cards")

    manifest = _manifest(run, cells, xy, report, clock, identity)
    if store:
        manifest["store"] = store
    class_names = model.labels if found.effects is not None else ()
    photos = tiles[1] if len(tiles) > 1 else None
    atlas = Atlas(wanted, cells, tiles[0], found, xy, source.names, manifest, class_names, photos, superstimuli)
    atlas = named(atlas, model, source, workers=workers, progress=progress)
    clock.lap("names")
    if folder is not None:
        write(atlas, folder, classes=labels, photographs=photographs, progress=progress)
    return atlas


def _manifest(
    run: Stages, cells: tuple[Cell, ...], xy: Floats, report: dict[str, Any], clock: Clock, identity: dict[str, Any]
) -> dict[str, Any]:
    return {
        "command": "build",
        "model": run.model.name,
        "settings": asdict(run.settings),
        "versions": versions(),
        "images": {"source": Path(run.images.source).name, "notes": list(run.images.notes), **report},
        "vectors": len(xy),
        "cells": {str(level): sum(cell.level == level for cell in cells) for level in run.settings.grid},
        "median_score": median_score(cells),
        "seconds": clock.laps,
        "identity": identity,
    }
