"""An image file of any kind -> 8-bit RGB (or greyscale), upright; and the part of it that a view shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from featviz.maximize import generator_for
from featviz.models import Preprocess

Box = tuple[float, float, float, float]


def open_upright(file: Path | Image.Image) -> Image.Image:
    """A decoded 8-bit RGB image, turned as its EXIF orientation says, transparent parts on white.

    Greyscale, palette, CMYK, alpha, 16-bit, 32-bit and floating-point images are converted; of an animation, the first
    frame. Raises what Pillow raises for a file that it cannot decode.
    """
    if isinstance(file, Image.Image):
        return _upright_rgb(file)
    with Image.open(file) as image:
        image.load()
        return _upright_rgb(image)


def _upright_rgb(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = _deep_to_grey(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _deep_to_grey(image: Image.Image) -> Image.Image:
    """16-bit integers keep their share of 65535; floats in [0, 1] of 1; anything else is stretched to its range.

    NaN is black; infinity is the end of the range.
    """
    values = np.asarray(image, dtype=np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    usual = 1.0 if image.mode == "F" else 65535.0
    if low >= 0 and high <= usual:
        low, high = 0.0, usual
    shares = np.nan_to_num((values - low) / max(high - low, 1e-12), nan=0, posinf=1, neginf=0)
    return Image.fromarray((shares * 255).round().astype(np.uint8))


def central_box(size: tuple[int, int], how: Preprocess) -> Box:
    """The central crop (left, top, right, bottom) in pixels of an image of (width, height) = `size`."""
    width, height = _largest(size, how.size)
    return _box(size, (width * how.crop, height * how.crop), (0.5, 0.5))


def central_view(image: Image.Image, how: Preprocess) -> Tensor:
    """What the network sees of an upright image by default: (channels, h, w) in [0, 1]."""
    return cut(image, central_box(image.size, how), how).float() / 255


def random_box(size: tuple[int, int], how: Preprocess, generator: torch.Generator) -> Box:
    """A crop of the network's proportions anywhere in the image: its area a uniform 1/5 to all of the largest possible.

    `size`: the image's (width, height). Never stretched, so shapes stay what they are.
    """
    area, across, down = torch.rand(3, generator=generator).tolist()
    share = (0.2 + 0.8 * area) ** 0.5
    width, height = _largest(size, how.size)
    return _box(size, (width * share, height * share), (across, down))


def view_boxes(size: tuple[int, int], how: Preprocess, number: int, count: int, seed: int) -> list[Box]:
    """The views of image `number`: the central crop, then seeded random ones, each by (seed, number, view) alone."""
    drawn = (generator_for(seed, f"view {number}/{view}") for view in range(1, count))
    return [central_box(size, how), *(random_box(size, how, generator) for generator in drawn)]


def cut(image: Image.Image, box: Box, how: Preprocess) -> Tensor:
    """The box of the image at the network's input size: uint8 (channels, h, w)."""
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    resample = filters.get(how.interpolation, Image.Resampling.BICUBIC)
    # reducing_gap speeds up large reductions; from 3 on Pillow's result is indistinguishable from the full filter.
    part = image.resize((how.size[1], how.size[0]), resample, box=box, reducing_gap=3.0)
    pixels = np.array(part if how.channels == 3 else part.convert("L"))
    if pixels.ndim == 3:
        return torch.from_numpy(pixels).permute(2, 0, 1)
    return torch.from_numpy(pixels).repeat(how.channels, 1, 1)


def _largest(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float]:
    """(width, height) of the largest box with the proportions of (height, width) = `wanted` in an image of `size`."""
    scale = min(size[0] / wanted[1], size[1] / wanted[0])
    return wanted[1] * scale, wanted[0] * scale


def _box(size: tuple[int, int], extent: tuple[float, float], place: tuple[float, float]) -> Box:
    left, top = (size[0] - extent[0]) * place[0], (size[1] - extent[1]) * place[1]
    return (max(left, 0.0), max(top, 0.0), min(left + extent[0], size[0]), min(top + extent[1], size[1]))
