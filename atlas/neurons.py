"""A class's terminal neurons: what excites each of them the most, drawn and found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from featviz.draw.drawing import Drawing
from featviz.draw.superstimuli import render
from featviz.errors import UserError
from featviz.network.classifier import feature_layer
from featviz.network.units import Unit
from featviz.progress import Progress, silent
from featviz.run.output import OutputFolder
from search.exemplars.exemplars import Exemplars, exemplars
from search.exemplars.sheet import INK, PAPER, QUIET, called, crop, font
from search.images.images import Images
from search.naming.naming import Name

from .weights import Study

# Pixels of a tile, between tiles and of a heading; exemplars of each neuron; neurons in a row; pixels that are drawn.
_TILE, _GAP, _HEAD, _EACH, _ACROSS, _DRAWN = 112, 8, 34, 3, 7, 128


@dataclass(frozen=True)
class Neurons:
    """The terminal neurons of some classes: `files` by feature; `best`: their exemplars in `layer`, where searched."""

    layer: str
    files: Mapping[int, Path]
    best: Exemplars | None

    def name(self, feature: int) -> Name | None:
        """What a neuron is called by the labels of the images that were searched, None where no name holds."""
        known = None if self.best is None else self.best.called.get((self.layer, feature))
        return None if known is None else known.name


def draw_neurons(
    found: Study,
    labels: Sequence[int],
    folder: OutputFolder,
    *,
    images: Images | None = None,
    steps: int = 96,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress = silent,
) -> Neurons:
    """The superstimulus of every terminal feature of the classes, and with images those that excite it the most.

    The superstimuli go into the folder, with their certificates in units.json. Raises `UserError` for a network whose
    features are no means of a map.
    """
    layer = feature_layer(found.model, found.classifier)
    if layer is None:
        raise UserError(f"the features of {found.model.name} are no means of a map: --no-neurons leaves them out.")
    features = sorted({feature for label in labels for side in _sides(found, label).values() for feature in side})
    drawing = Drawing(steps=steps, size=_DRAWN, seed=seed)
    units = [Unit(layer, feature) for feature in features]
    files = {entry.unit: entry.file for entry in render(found.model, units, folder, drawing, progress=progress)}
    best = None
    if images is not None:
        best = exemplars(found.model, images, layer, k=_EACH, workers=workers, progress=progress)
    return Neurons(layer, {unit.channel: folder.path / files[str(unit)] for unit in units}, best)


def neuron_sheet(found: Study, label: int, neurons: Neurons) -> Image.Image:
    """A class's terminal features, those with the largest weights first: drawn, and below, found and named."""
    sides, with_images = _sides(found, label), neurons.best is not None
    lines = sum(-(-len(members) // _ACROSS) for members in sides.values())
    size = (_GAP + _ACROSS * (_TILE + _GAP), len(sides) * _HEAD + lines * _height(with_images) + _GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw, top = ImageDraw.Draw(sheet), 0
    for side, members in sides.items():
        draw.text((_GAP, top + 6), f"{side}: {len(members)} features", font=ImageFont.load_default(17), fill=INK)
        top += _HEAD
        for place, feature in enumerate(members):
            x = _GAP + place % _ACROSS * (_TILE + _GAP)
            y = top + place // _ACROSS * _height(with_images)
            with Image.open(neurons.files[feature]) as picture:
                sheet.paste(picture.convert("RGB").resize((_TILE, _TILE), Image.Resampling.LANCZOS), (x, y))
            text = f"{feature}: {found.weights[label, feature]:+.3f}"
            draw.text((x, y + _TILE + 3), text, font=ImageFont.load_default(12), fill=QUIET)
            if neurons.best is not None:
                draw.text(
                    (x, y + _TILE + 18), called(neurons.best, neurons.layer, feature, _TILE), font=font(11), fill=INK
                )
                _paste_exemplars(sheet, neurons.best, neurons.layer, feature, (x, y + _TILE + 36))
        top += -(-len(members) // _ACROSS) * _height(with_images)
    return sheet


def neuron_rows(found: Study, label: int, neurons: Neurons) -> list[dict[str, Any]]:
    """A class's terminal features as a table: the weight of each and its name, with the evidence for that."""
    rows = []
    for side, members in _sides(found, label).items():
        for feature in members:
            name = neurons.name(feature)
            row = {"kind": side, "feature": feature, "weight": f"{found.weights[label, feature]:+.3f}"}
            named = (
                {}
                if name is None
                else {
                    "name": name.text,
                    "AUROC": f"{name.auroc:.2f} ({name.low:.2f} to {name.high:.2f})",
                    "p": f"{name.p:.1g}",
                }
            )
            rows.append({**row, **(named or dict.fromkeys(("name", "AUROC", "p"), ""))})
    return rows


def _sides(found: Study, label: int) -> dict[str, list[int]]:
    size = np.abs(found.weights[label])
    return {
        "discriminative": sorted(found.discriminative.members[label], key=lambda feature: -size[feature]),
        "confusing": sorted(found.confusing.members[label], key=lambda feature: -size[feature]),
    }


def _height(with_images: bool) -> int:
    return _TILE + 24 + (with_images * (_small() + 22)) + 6


def _small() -> int:
    return (_TILE - 2 * (_EACH - 1)) // _EACH


def _paste_exemplars(sheet: Image.Image, best: Exemplars, layer: str, feature: int, place: tuple[int, int]) -> None:
    for number, entry in enumerate(best.of(layer, feature)[:_EACH]):
        tile = crop(best.images.open(entry.image), entry.effective_box, _small())
        sheet.paste(tile, (place[0] + number * (_small() + 2), place[1]))
