"""Exemplars -> a folder: exemplars.json, statistics.json, a sheet per layer and per unit asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from featviz.progress import Progress, silent
from featviz.run.output import OutputFolder, safe_name

from ..images.image_set import readable
from .diverse import chosen
from .exemplars import Exemplars
from .layer_exemplars import Exemplar
from .sheet import layer_sheet, unit_sheet

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
# Shares of the images below those that quantiles.json names.
ORDINARY = (0.1, 0.25, 0.5, 0.75, 0.9)


def write(
    found: Exemplars, folder: OutputFolder, *, units: Sequence[tuple[str, int]] = (), progress: Progress = silent
) -> dict[str, bytes]:
    """Write everything but the manifest; returns the sheets' PNGs by file name, layers before units."""
    folder.write_json("exemplars.json", exemplars_json(found, lambda *unit: chosen(found, *unit).exemplars))
    folder.write_json("weakest.json", exemplars_json(found, lambda *unit: found.of(*unit, weakest=True)[: found.k]))
    folder.write_json("quantiles.json", {layer: _ordinary(found, layer) for layer in found.layers})
    folder.write_json("statistics.json", {layer: _statistics(found, layer) for layer in found.layers})
    if found.called:
        folder.write_json("names.json", _names(found))
    labels = sorted({label for entry in found.layers.values() for label in entry.classes})
    if labels:
        folder.write_json("classes.json", {str(label): _of_class(found, label) for label in labels}, indent=None)
    files = []
    for layer in found.layers:
        sheet = layer_sheet(found, layer, progress=progress)
        files.append(folder.write(f"layer-{safe_name(layer)}.png", partial(sheet.save, format="PNG")))
    for done, (layer, channel) in enumerate(units, 1):
        sheet = unit_sheet(found, layer, channel)
        files.append(folder.write(f"units/{safe_name(layer)}_{channel}.png", partial(sheet.save, format="PNG")))
        progress("drawing sheets", done, len(units))
    return {str(file.relative_to(folder.path)): file.read_bytes() for file in files}


def exemplars_json(found: Exemplars, of: Callable[[str, int], Sequence[Exemplar]]) -> dict[str, Any]:
    """Layer -> channel -> the exemplars that `of` it are shown."""
    return {
        layer: {str(channel): entries_json(found, of(layer, channel)) for channel in range(len(known))}
        for layer, known in found.layers.items()
    }


def entries_json(found: Exemplars, entries: Sequence[Exemplar]) -> list[dict[str, Any]]:
    """Exemplars; `box` is all that the network saw where the layer is global."""
    return [
        {
            "image": entry.image,
            "path": readable(entry.name),
            "label": entry.label,
            "value": finite(entry.value),
            "row": entry.row,
            "col": entry.column,
            "box": [round(side, 2) for side in entry.box or found.view(entry.image)],
            "effective_box": [round(side, 2) for side in entry.effective_box],
        }
        for entry in entries
    ]


def _names(found: Exemplars) -> dict[str, Any]:
    """Layer -> channel -> the unit's name with its evidence, or null, and the closest words, unchecked."""
    return {
        layer: {
            str(channel): {
                "name": None if (name := found.called[layer, channel].name) is None else asdict(name),
                "closest": [[text, round(fit, 4)] for text, fit in found.called[layer, channel].closest],
            }
            for channel in range(len(known))
        }
        for layer, known in found.layers.items()
    }


def _of_class(found: Exemplars, label: int) -> dict[str, Any]:
    """Layer -> channel -> [image, value, row, column] of a class's strongest images, best first."""
    return {
        layer: {
            str(channel): [
                [entry.image, finite(entry.value), entry.row, entry.column]
                for entry in found.of(layer, channel, label=label)
            ]
            for channel in range(len(known))
        }
        for layer, known in found.layers.items()
        if label in known.classes
    }


def _ordinary(found: Exemplars, layer: str) -> dict[str, Any]:
    """Channel -> share of the images that stay below -> sampled images about there."""
    known, names = found.layers[layer], found.images.names
    return {
        str(channel): {
            f"{share:g}": [
                {"image": number, "path": readable(names[number]), "value": finite(value)}
                for number, value in known.at_quantile(channel, share)
            ]
            for share in ORDINARY
        }
        for channel in range(len(known))
    }


def _statistics(found: Exemplars, layer: str) -> dict[str, Any]:
    known, fields = found.layers[layer].statistics, found.layers[layer]
    columns = known.table(QUANTILES)
    del columns["dead"]
    height, width = fields.fields.size
    if found.diverse != "no":
        costs = [chosen(found, layer, channel).cost for channel in range(len(fields))]
        columns["cost_of_diversity"] = torch.tensor(costs)
    return {
        "reduce": found.reduce,
        "map": list(fields.grid),
        "input": [height, width],
        "global": fields.fields.is_global,
        "effective_size": list(fields.extent),
        "dead": known.dead.nonzero()[:, 0].tolist(),
        "duplicates": [list(pair) for pair in fields.correlations.duplicates()],
        "frequent_labels": [found.labels_of(layer, channel)[:5] for channel in range(len(fields))],
        "channels": {name: [finite(value) for value in column.tolist()] for name, column in columns.items()},
    }


def finite(value: float) -> float | None:
    """The value as JSON can hold it."""
    return value if abs(value) < float("inf") else None
