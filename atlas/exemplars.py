"""The command `atlas exemplars`: layers -> each unit's strongest images, statistics, sheets and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from featviz.errors import UserError, unknown
from featviz.models import Model
from featviz.output import OutputFolder
from featviz.progress import Progress, silent
from featviz.units import Unit, parse_units
from search.exemplars import SHARD, Exemplars, Reduce, exemplars, layer_list
from search.images import Images, open_images
from search.report import write

from .build import versions
from .explorer import sheets_page


def find_exemplars(
    model: Model,
    layers: Sequence[str],
    *,
    out: str | Path,
    images: str | Path | Images,
    k: int = 9,
    reduce: Reduce = "max",
    units: Sequence[str] = (),
    shard: int = SHARD,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Find every unit's exemplars into a folder; returns the manifest.

    layers: names or globs. units: words that `parse_units` reads, of those layers, that get a sheet of their own. A
    shard: images after which what was found is kept; a
    stopped run goes on at the shard where it was stopped; a folder made of other images or settings is refused.
    """
    against = open_images(images)
    wanted = [unit for word in units for unit in parse_units(word, model)]
    if any(unit.vectors or unit.sign < 0 or unit.position is not None for unit in wanted):
        raise UserError("--units takes channels and classes; `atlas unit` shows neurons and opposites.")
    layers = list(dict.fromkeys([*layer_list(model, layers), *(unit.layer for unit in wanted)]))
    if reduce not in get_args(Reduce):
        raise unknown("reduction", reduce, list(get_args(Reduce)))
    if k < 1 or shard < 1:
        raise UserError(f"k and the shard start at 1; got {k} and {shard}.")
    identity = {
        "command": "exemplars",
        "layers": layers,
        "units": [str(unit) for unit in wanted],
        "k": k,
        "reduce": reduce,
        "weights": model.fingerprint,
        "preprocess": asdict(model.preprocess),
        "images": against.fingerprint,
    }
    folder = OutputFolder.claim(out, identity, overwrite=overwrite)
    if folder.finished:
        return folder.manifest()
    found = exemplars(
        model, against, layers, k=k, reduce=reduce, shard=shard, workers=workers, keep=folder.arrays, progress=progress
    )
    sheets = write(found, folder, units=_channels(wanted), progress=progress)
    manifest = _manifest(found, k)
    page = sheets_page(title=f"Exemplars of {model.name}", sheets=sheets, facts=_facts(found))
    folder.write("index.html", lambda path: path.write_text(page, encoding="utf-8"))
    folder.finish(manifest)
    return folder.manifest()


def _channels(units: Sequence[Unit]) -> list[tuple[str, int]]:
    return list(dict.fromkeys((unit.layer, unit.channel) for unit in units))


def _facts(found: Exemplars) -> dict[str, Any]:
    fields = {
        layer: "the whole image can reach every position"
        if entry.fields.is_global
        else f"{max(b - a for a, b in entry.fields.rows.tolist())} pixels high"
        for layer, entry in found.layers.items()
    }
    return {
        "images": f"{Path(found.images.source).name}, {len(found.images)}",
        "skipped": len(found.skipped),
        "value": f"{found.reduce} of the channel's map",
        **{f"receptive field of {layer}": text for layer, text in fields.items()},
        **{
            f"effective field of {layer}": f"{entry.extent[0]:.0f} x {entry.extent[1]:.0f} pixels of the input (mean)"
            for layer, entry in found.layers.items()
        },
    }


def _manifest(found: Exemplars, k: int) -> dict[str, Any]:
    used = len(found.images) - len(found.skipped)
    notes = list(found.images.notes)
    if k > used:
        notes.append(f"k is {k}, the images are {used}: each unit has {used} exemplars")
    return {
        "command": "exemplars",
        "model": found.model.name,
        "settings": {"k": k, "reduce": found.reduce},
        "versions": versions(),
        "images": {
            "source": Path(found.images.source).name,
            "used": used,
            "skipped": [asdict(entry) for entry in found.skipped],
            "notes": notes,
        },
        "layers": {layer: len(entry.top.values) for layer, entry in found.layers.items()},
    }
