"""Contact sheets: a unit's exemplars, crop and whole; a layer's units, each with its best crops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from featviz.network.layers import OUTPUT
from featviz.progress import Progress, silent

from ..images.decode import Box
from ..images.images import Images
from .diverse import DiverseExemplars, chosen
from .exemplars import Exemplars
from .focus import activation_masks, near_misses, views
from .layer_exemplars import Exemplar

INK, QUIET, PAPER, MARK = "#1b1b1f", "#6a6a72", "#ffffff", "#ff3b30"
_GAP = 8
# How much light is left outside a mask, of 255.
_DARK = 80
# Shares of the images that stay below what a sheet calls ordinary.
_ORDINARY = (0.9, 0.5, 0.1)


@dataclass(frozen=True)
class _Request:
    """A crop of an image, as a square of so many pixels."""

    image: int
    box: Box
    side: int


def unit_sheet(found: Exemplars, layer: str, channel: int, *, tile: int = 128) -> Image.Image:
    """All about one unit's images: the strongest, the ordinary, the near misses, the weakest.

    Of the strongest, above, the part that moves it; below, the whole image with that part outlined, dark where the unit
    is not active (`search.focus.activation_masks`). Of a unit without places, such as a logit, the whole image alone.
    """
    made = chosen(found, layer, channel)
    strips = _strips(found, layer, channel)
    placed, small = _has_places(found, layer), tile * 5 // 8
    head, caption, strip = 58, 40, 26 + small + 24
    under = head + (2 * tile + _GAP if placed else tile)
    width = 2 * _GAP + max(len(made.exemplars), 6) * (tile + _GAP)
    sheet = Image.new("RGB", (width, under + caption + len(strips) * strip + _GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((2 * _GAP, 10), found.name_of(layer, channel), font=font(20), fill=INK)
    draw.text((2 * _GAP, 36), _statistics(found, layer, channel, made), font=font(12), fill=QUIET)
    for place, (entry, mask) in enumerate(zip(made.exemplars, _masks(found, layer, channel, made), strict=True)):
        left = 2 * _GAP + place * (tile + _GAP)
        image = found.images.open(entry.image)
        if placed:
            sheet.paste(crop(image, entry.effective_box, tile), (left, head))
            shaded = shade(image, mask, found.view(entry.image))
            sheet.paste(whole(shaded, entry.effective_box, tile), (left, head + tile + _GAP))
        else:
            sheet.paste(crop(image, (0, 0, *image.size), tile), (left, head))
        for line, text in enumerate((f"{entry.value:.3g}", _class(found.images, entry, tile))):
            draw.text((left, under + 4 + 16 * line), text, font=font(12), fill=QUIET if line else INK)
    top = under + caption
    for name, entries in strips.items():
        draw.text((2 * _GAP, top + 6), name, font=font(12), fill=INK)
        for place, (number, value) in enumerate(entries):
            left = 2 * _GAP + place * (small + _GAP)
            image = found.images.open(number)
            sheet.paste(crop(image, (0, 0, *image.size), small), (left, top + 26))
            draw.text((left, top + 28 + small), f"{value:.3g}", font=font(11), fill=QUIET)
        top += strip
    return sheet


def _has_places(found: Exemplars, layer: str) -> bool:
    """Whether the layer's units are seen at places of the image."""
    return found.layers[layer].grid != (1, 1)


def _strips(found: Exemplars, layer: str, channel: int) -> dict[str, list[tuple[int, float]]]:
    """What a sheet shows below the strongest images: heading -> images and values."""
    known = found.layer(layer, channel)
    ordinary = {f"{share:.0%}": known.at_quantile(channel, share, 3) for share in _ORDINARY}
    missed = [(entry.image, entry.value) for entry in near_misses(found, layer, channel)]
    weakest = [(entry.image, entry.value) for entry in found.of(layer, channel, weakest=True)[:9]]
    strips = {
        f"ordinary images: where {', '.join(ordinary)} of them stay below": [
            entry for group in ordinary.values() for entry in group
        ],
        "near misses: alike to the layer's other units, below this one's median": missed,
        "weakest images": weakest,
    }
    return {name: entries for name, entries in strips.items() if entries}


def _masks(found: Exemplars, layer: str, channel: int, made: DiverseExemplars) -> Tensor:
    if not made.exemplars:
        return torch.zeros(0, 1, 1, dtype=torch.bool)
    return activation_masks(found, layer, channel, views(found, [entry.image for entry in made.exemplars]))


def layer_sheet(
    found: Exemplars, layer: str, *, tile: int = 56, each: int = 6, progress: Progress = silent
) -> Image.Image:
    """All channels of a layer, each with the parts of its strongest images that move it."""
    channels = list(range(len(found.layers[layer])))
    best = {channel: chosen(found, layer, channel).exemplars[:each] for channel in channels}
    requests = [_Request(entry.image, entry.effective_box, tile) for row in best.values() for entry in row]
    tiles = _crops(found.images, requests, progress)
    names = {channel: called(found, layer, channel) for channel in channels}
    label, head = 104 if any(names.values()) else 44, 40
    strip = label + each * (tile + 2) + 2 * _GAP
    columns = max(1, min(4, -(-len(channels) // 12)))
    rows = -(-len(channels) // columns)
    sheet = Image.new("RGB", (_GAP + columns * strip, head + rows * (tile + _GAP) + _GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((2 * _GAP, 10), f"{layer}: {len(channels)} units", font=font(18), fill=INK)
    for channel in channels:
        left = _GAP + channel // rows * strip
        top = head + channel % rows * (tile + _GAP)
        draw.text((left + label - 8, top + tile // 2), str(channel), font=font(13), fill=INK, anchor="rm")
        draw.text((left + label - 8, top + tile // 2 + 14), names[channel], font=font(11), fill=QUIET, anchor="rm")
        for place, entry in enumerate(best[channel]):
            picture = tiles[_Request(entry.image, entry.effective_box, tile)]
            sheet.paste(picture, (left + label + place * (tile + 2), top))
    return sheet


def called(found: Exemplars, layer: str, channel: int, width: int = 92) -> str:
    """A class's name; any other unit's where one holds; as much as fits."""
    known = found.called.get((layer, channel))
    text = known.name.text if known is not None and known.name is not None else ""
    if layer == OUTPUT and channel < len(found.model.labels):
        text = found.model.labels[channel]
    while font(11).getlength(text) > width and len(text) > 4:
        text = text[:-2] + "…"
    return text


def crop(image: Image.Image, box: Box, side: int) -> Image.Image:
    """The box of the image as a square: widened to one as far as the image reaches, then fitted in, on grey."""
    box = _squared(box, image.size)
    width, height = box[2] - box[0], box[3] - box[1]
    scale = side / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    part = image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    square = Image.new("RGB", (side, side), "#808080")
    square.paste(part, ((side - size[0]) // 2, (side - size[1]) // 2))
    return square


def shade(image: Image.Image, mask: Tensor, view: Box) -> Image.Image:
    """The image, dark but where the mask (h, w) of bool over its part `view` is True."""
    left, top, right, bottom = (round(side) for side in view)
    size = (max(1, right - left), max(1, bottom - top))
    lit = Image.new("L", image.size, _DARK)
    shown = Image.fromarray((mask.numpy() * (255 - _DARK) + _DARK).astype(np.uint8))
    lit.paste(shown.resize(size, Image.Resampling.BILINEAR), (left, top))
    return Image.composite(image, Image.new("RGB", image.size), lit)


def _squared(box: Box, size: tuple[int, int]) -> Box:
    """The box with its shorter side made as long as the longer one, about its middle, as far as the image reaches."""
    side = max(box[2] - box[0], box[3] - box[1])
    ends = []
    for low, high, limit in ((box[0], box[2], size[0]), (box[1], box[3], size[1])):
        length = min(side, limit)
        start = min(max((low + high - length) / 2, 0.0), limit - length)
        ends.append((start, start + length))
    return (ends[0][0], ends[1][0], ends[0][1], ends[1][1])


def whole(image: Image.Image, box: Box, side: int) -> Image.Image:
    """The whole image fitted into a square, the box outlined."""
    scale = side / max(image.size)
    square = crop(image, (0, 0, *image.size), side)
    left, top = (side - image.size[0] * scale) / 2, (side - image.size[1] * scale) / 2
    x, y = left + box[0] * scale, top + box[1] * scale
    corners = (x, y, max(x, left + box[2] * scale - 1), max(y, top + box[3] * scale - 1))
    ImageDraw.Draw(square).rectangle(corners, outline=MARK, width=2)
    return square


def _crops(images: Images, requests: Sequence[_Request], progress: Progress) -> Mapping[_Request, Image.Image]:
    """The crops asked for, each image opened once."""
    wanted: dict[int, list[_Request]] = {}
    for request in dict.fromkeys(requests):
        wanted.setdefault(request.image, []).append(request)
    made: dict[_Request, Image.Image] = {}
    for done, (number, of_image) in enumerate(sorted(wanted.items()), 1):
        image = images.open(number)
        for request in of_image:
            made[request] = crop(image, request.box, request.side)
        progress("cutting crops", done, len(wanted))
    return made


def _statistics(found: Exemplars, layer: str, channel: int, made: DiverseExemplars) -> str:
    known = found.layers[layer].statistics
    of = f"{found.reduce} over the map, " if _has_places(found, layer) else ""
    text = (
        f"{of}{int(known.count[channel])} images: median {known.quantile(0.5)[channel]:.3g}, "
        f"99 % below {known.quantile(0.99)[channel]:.3g}, largest {known.greatest[channel]:.3g}, "
        f"above zero {known.positive[channel]:.0%}"
    )
    if found.diverse == "no":
        return text
    return f"{text}; {made.dropped} alike passed over at the cost of {made.cost:.1%} of the mean"


def _class(images: Images, entry: Exemplar, width: int) -> str:
    """The image's class, else its name, as much as fits."""
    text = images.class_names[entry.image] or (f"class {entry.label}" if entry.label >= 0 else entry.name)
    while font(12).getlength(text) > width and len(text) > 4:
        text = text[:-2] + "…"
    return text


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
