"""The cells that tell two classes apart as one picture: icon, photographs, figures."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from .classes import Telling
from .photos import Photographs
from .result import Atlas

INK, QUIET, PAPER = "#1b1b1f", "#6a6a72", "#ffffff"
_SIDE, _GAP, _HEAD, _WORDS, _CROPS = 96, 8, 44, 190, 4


def telling_picture(
    gradient: Atlas, telling: Sequence[Telling], names: tuple[str, str], photographs: Photographs, *, count: int = 8
) -> Image.Image:
    """A column for each class, a row for each cell: its icon, the nearest parts of photographs, its figures.

    gradient: the atlas whose cells they are, of whose sample the photographs are.
    """
    columns = [[row for row in telling if row.difference * sign > 0][:count] for sign in (-1, 1)]
    wide = (_SIDE + _GAP) * (1 + _CROPS) + _WORDS
    high = _HEAD + max(map(len, columns)) * (_SIDE + _GAP) + _GAP
    picture = Image.new("RGB", (2 * wide + 3 * _GAP, high), PAPER)
    draw = ImageDraw.Draw(picture)
    icons = {cell.key: Image.fromarray(icon) for cell, icon in zip(gradient.cells, gradient.pictures, strict=True)}
    for place, (name, other, rows) in enumerate(zip(names, reversed(names), columns, strict=True)):
        left = _GAP + place * (wide + _GAP)
        draw.text((left, 14), f"for {name}, against {other}", font=ImageFont.load_default(17), fill=INK)
        for number, row in enumerate(rows):
            top = _HEAD + number * (_SIDE + _GAP)
            picture.paste(icons[row.cell].resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), (left, top))
            for step, each in enumerate(row.nearest[:_CROPS], 1):
                picture.paste(photographs.crop(each, _SIDE), (left + step * (_SIDE + _GAP) + _GAP, top))
            _write(draw, (left + (1 + _CROPS) * (_SIDE + _GAP) + 2 * _GAP, top), row, gradient)
    return picture


def _write(draw: ImageDraw.ImageDraw, corner: tuple[int, int], row: Telling, gradient: Atlas) -> None:
    left, top = corner
    images = "a single image" if row.images == 1 else f"{row.images} images"
    lines = [(f"{row.difference:+.2f}", INK), (f"{row.count} activation{'s' * (row.count > 1)}, {images}", QUIET)]
    if row.name:
        lines.insert(0, (_short(row.name), INK))
    speaking = gradient.speaking
    if speaking is not None and speaking.worth_saying:
        lines += [
            (f"{_short(gradient.class_name(label))} {effect:+.2f}", INK)
            for label, effect in row.top[: 3 - bool(row.name)]
        ]
    for number, (text, color) in enumerate(lines):
        draw.text((left, top + 18 * number), text, font=ImageFont.load_default(13), fill=color)


def _short(name: str) -> str:
    return name if len(name) <= 20 else f"{name[:19]}…"
