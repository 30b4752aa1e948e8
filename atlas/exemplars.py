"""The command `atlas exemplars`: layers -> each unit's strongest images, statistics, sheets and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from featviz.errors import UserError
from featviz.network.models import Model
from featviz.network.units import Unit, parse_units
from featviz.progress import Progress, silent
from featviz.run.engine import LOCAL, Engine
from search.exemplars.exemplars import Diverse, Exemplars, check_settings, exemplars
from search.exemplars.index import write_index
from search.exemplars.parquet import require_parquet, write_parquet
from search.exemplars.report import write
from search.images.images import Images, open_images
from search.scan.readout import Readout, readouts
from search.scan.record import Reduce
from search.scan.shards import STEP

from .claim import claim, identify
from .explorer import sheets_page
from .stages import versions


def find_exemplars(
    model: Model,
    layers: Sequence[str | Readout],
    *,
    out: str | Path,
    images: str | Path | Images,
    k: int = 9,
    reduce: Reduce = "max",
    diverse: Diverse = "no",
    per_class: int = 0,
    matrix: bool = False,
    parquet: bool = False,
    part: tuple[int, int] = (1, 1),
    units: Sequence[str] = (),
    shard: int = STEP,
    overwrite: bool = False,
    workers: int | None = None,
    engine: Engine = LOCAL,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Find every unit's exemplars into a folder; returns the manifest.

    layers, k, reduce, diverse, per_class, part, shard: as `search.exemplars` takes them. units: words, as `parse_units`
    reads them, for units that get a sheet of their own. matrix: keep every unit's value on every image too, in
    matrix/. parquet: also write exemplars.parquet and statistics.parquet. A stopped run goes on where its last shard
    ended; a folder made of other images or settings is refused.
    """
    against = open_images(images, model.preprocess)
    if parquet:
        require_parquet()
    wanted = [unit for word in units for unit in parse_units(word, model)]
    if any(unit.sign < 0 or unit.position is not None for unit in wanted):
        raise UserError("--units takes channels, classes and directions; `atlas unit` shows neurons and opposites.")
    looked_at = readouts(model, [*layers, *(_readout_of(unit) for unit in wanted)])
    check_settings(k=k, reduce=reduce, diverse=diverse, per_class=per_class, shard=shard, part=part)
    identity = identify(
        "exemplars", model, against,
        layers=[each.name for each in looked_at],
        directions={each.name: each.fingerprint for each in looked_at if each.fingerprint},
        units=[str(unit) for unit in wanted],
        k=k,
        reduce=reduce,
        diverse=diverse,
        per_class=per_class,
        matrix=matrix,
        parquet=parquet,
        part=part,
    )  # fmt: skip
    folder = claim(out, identity, model, against, overwrite=overwrite)
    if folder.finished:
        return folder.manifest()
    found = exemplars(
        model, against, looked_at, k=k, reduce=reduce, diverse=diverse, per_class=per_class,
        matrix=folder.path / "matrix" if matrix else None, part=part, shard=shard, workers=workers, keep=folder,
        engine=engine, progress=progress,
    )  # fmt: skip
    sheets = write(found, folder, units=_channels(wanted), progress=progress)
    write_index(found, folder)
    if parquet:
        write_parquet(found, folder)
    page = sheets_page(title=f"Exemplars of {model.name}", sheets=sheets, facts=_facts(found))
    folder.write_text("index.html", page)
    folder.finish(_manifest(found, k))
    return folder.manifest()


def _readout_of(unit: Unit) -> str:
    return f"{unit.layer}:{unit.vectors}" if unit.vectors else unit.layer


def _channels(units: Sequence[Unit]) -> list[tuple[str, int]]:
    return list(dict.fromkeys((_readout_of(unit), unit.channel) for unit in units))


def _facts(found: Exemplars) -> dict[str, Any]:
    fields = {
        layer: "the whole image can reach every position"
        if entry.fields.is_global
        else f"{max(b - a for a, b in entry.fields.rows.tolist())} pixels high"
        for layer, entry in found.layers.items()
    }
    return {
        "images": f"{Path(found.images.source).name}, {sum(map(len, found.numbers))}",
        "skipped": len(found.skipped),
        "value": f"{found.reduce} of the channel's map",
        **{f"receptive field of {layer}": text for layer, text in fields.items()},
        **{
            f"effective field of {layer}": f"{entry.extent[0]:.0f} x {entry.extent[1]:.0f} pixels of the input (mean)"
            for layer, entry in found.layers.items()
        },
    }


def _manifest(found: Exemplars, k: int) -> dict[str, Any]:
    used = sum(map(len, found.numbers)) - len(found.skipped)
    notes = list(found.images.notes)
    if k > used:
        notes.append(f"k is {k}, the images are {used}: each unit has {used} exemplars")
    return {
        "command": "exemplars",
        "model": found.model.name,
        "settings": {"k": k, "reduce": found.reduce, "diverse": found.diverse},
        "versions": versions(),
        "images": {
            "source": Path(found.images.source).name,
            "used": used,
            "skipped": [asdict(entry) for entry in found.skipped],
            "notes": notes,
        },
        "layers": {layer: len(entry) for layer, entry in found.layers.items()},
    }
