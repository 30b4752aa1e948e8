"""Exemplars -> a folder: exemplars.json, statistics.json, a sheet per layer and per unit asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from featviz.output import OutputFolder
from featviz.progress import Progress, silent

from .exemplars import Exemplars
from .sheet import layer_sheet, unit_sheet

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)


def write(
    found: Exemplars, folder: OutputFolder, *, units: Sequence[tuple[str, int]] = (), progress: Progress = silent
) -> dict[str, bytes]:
    """Write everything but the manifest; returns the sheets' PNGs by file name, layers before units."""
    every = {layer: range(len(entry.top.values)) for layer, entry in found.layers.items()}
    strongest = {layer: exemplars_json(found, layer, channels) for layer, channels in every.items()}
    weakest = {layer: exemplars_json(found, layer, channels, weakest=True) for layer, channels in every.items()}
    folder.write_json("exemplars.json", strongest)
    folder.write_json("weakest.json", weakest)
    folder.write_json("statistics.json", {layer: _statistics(found, layer) for layer in found.layers})
    files = []
    for layer in found.layers:
        sheet = layer_sheet(found, layer, progress=progress)
        files.append(folder.write(f"layer-{_safe(layer)}.png", partial(sheet.save, format="PNG")))
    for done, (layer, channel) in enumerate(units, 1):
        sheet = unit_sheet(found, layer, channel)
        files.append(folder.write(f"units/{_safe(layer)}_{channel}.png", partial(sheet.save, format="PNG")))
        progress("drawing sheets", done, len(units))
    return {str(file.relative_to(folder.path)): file.read_bytes() for file in files}


def exemplars_json(
    found: Exemplars, layer: str, channels: Iterable[int], *, weakest: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Channel -> its exemplars; `box` is all that the network saw where the layer is global."""
    entries: dict[str, list[dict[str, Any]]] = {}
    for channel in channels:
        entries[str(channel)] = [
            {
                "image": entry.image,
                "path": entry.name,
                "label": entry.label,
                "value": _finite(entry.value),
                "row": entry.row,
                "col": entry.column,
                "box": [round(side, 2) for side in entry.box or found.view(entry.image)],
                "effective_box": [round(side, 2) for side in entry.effective_box],
            }
            for entry in found.of(layer, channel, weakest=weakest)
        ]
    return entries


def _statistics(found: Exemplars, layer: str) -> dict[str, Any]:
    known, fields = found.layers[layer].statistics, found.layers[layer]
    columns = {
        "count": known.count,
        "mean": known.mean,
        "deviation": known.deviation,
        "least": known.least,
        "greatest": known.greatest,
        "positive": known.positive,
        **{f"quantile {share:g}": known.quantile(share) for share in QUANTILES},
    }
    height, width = fields.fields.size
    return {
        "reduce": found.reduce,
        "map": list(fields.grid),
        "input": [height, width],
        "global": fields.fields.is_global,
        "effective_size": list(fields.extent),
        "dead": fields.correlations.dead(),
        "duplicates": [list(pair) for pair in fields.correlations.duplicates()],
        "channels": {name: [_finite(value) for value in column.tolist()] for name, column in columns.items()},
    }


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _safe(layer: str) -> str:
    return re.sub(r"[^\w.-]", "_", layer)
