"""A class's terminal neurons: what excites each of them the most, drawn and found."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from featviz.classifier import feature_layer
from featviz.errors import UserError
from featviz.output import OutputFolder
from featviz.progress import Progress, silent
from featviz.superstimuli import Drawing, render
from featviz.units import Unit
from search.exemplars import Exemplars, exemplars
from search.images import Images
from search.sheet import INK, PAPER, QUIET, crop

from .weights import Study

_TILE, _GAP, _EACH, _ACROSS = 112, 8, 3, 7


def neuron_sheet(
    found: Study,
    label: int,
    folder: OutputFolder,
    *,
    images: Images | None = None,
    steps: int = 96,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress = silent,
) -> Image.Image:
    """Each terminal feature's superstimulus and, with images, the parts of three that excite it the most.

    The superstimuli go into the folder too, with their certificates in units.json. Raises `UserError` for a network
    whose features are no means of a map.
    """
    layer = feature_layer(found.model, found.classifier)
    if layer is None:
        raise UserError(f"the features of {found.model.name} are no means of a map.")
    size = np.abs(found.weights[label])
    rows = {
        "discriminative": sorted(found.discriminative.members[label], key=lambda feature: -size[feature]),
        "confusing": sorted(found.confusing.members[label], key=lambda feature: -size[feature]),
    }
    units = [Unit(layer, feature) for members in rows.values() for feature in members]
    drawing = Drawing(steps=steps, size=128, seed=seed)
    files = {entry.unit: entry.file for entry in render(found.model, units, folder, drawing, progress=progress)}
    best = None
    if images is not None:
        best = exemplars(found.model, images, layer, k=_EACH, workers=workers, progress=progress)
    sheet, draw = _empty(rows, best is not None)
    top = 0
    for side, members in rows.items():
        draw.text((_GAP, top + 6), f"{side}: {len(members)} features", font=ImageFont.load_default(17), fill=INK)
        top += 34
        for place, feature in enumerate(members):
            x = _GAP + place % _ACROSS * (_TILE + _GAP)
            y = top + place // _ACROSS * _height(best is not None)
            with Image.open(folder.path / files[str(Unit(layer, feature))]) as picture:
                sheet.paste(picture.convert("RGB").resize((_TILE, _TILE), Image.Resampling.LANCZOS), (x, y))
            text = f"{feature}: {found.weights[label, feature]:+.3f}"
            draw.text((x, y + _TILE + 3), text, font=ImageFont.load_default(12), fill=QUIET)
            if best is not None:
                _paste_exemplars(sheet, best, layer, feature, (x, y + _TILE + 20))
        top += -(-len(members) // _ACROSS) * _height(best is not None)
    return sheet


def _empty(rows: dict[str, list[int]], with_images: bool) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    lines = sum(-(-len(members) // _ACROSS) for members in rows.values())
    size = (_GAP + _ACROSS * (_TILE + _GAP), 2 * 34 + lines * _height(with_images) + _GAP)
    sheet = Image.new("RGB", size, PAPER)
    return sheet, ImageDraw.Draw(sheet)


def _height(with_images: bool) -> int:
    return _TILE + 24 + (with_images * (_small() + 6)) + 6


def _small() -> int:
    return (_TILE - 2 * (_EACH - 1)) // _EACH


def _paste_exemplars(sheet: Image.Image, best: Exemplars, layer: str, feature: int, place: tuple[int, int]) -> None:
    for number, entry in enumerate(best.of(layer, feature)[:_EACH]):
        tile = crop(best.images.open(entry.image), entry.effective_box, _small())
        sheet.paste(tile, (place[0] + number * (_small() + 2), place[1]))
