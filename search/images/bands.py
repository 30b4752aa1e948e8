"""Pictures of any number of bands: an array -> numbers in [0, 1], cut and resized band by band."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from featviz.network.bands import shown_bands, told_bands
from featviz.network.models import Preprocess

from .decode import MOST_PIXELS, Box, FeedError, UndecodableError, refused, resampling

# What a brightness is of red, green and blue, as Pillow has it.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, eq=False)
class Bands:
    """A picture of n bands: `values` (n, h, w) float32 in [0, 1]; `show`: which three, or which one, a reader sees."""

    values: NDArray[np.float32]
    show: tuple[int, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), as of a photograph."""
        return self.values.shape[2], self.values.shape[1]

    def cut(self, box: Box, how: Preprocess) -> Tensor:
        """The box at the network's input size, each band for itself: float32 (n, h, w) in [0, 1]."""
        size = (how.size[1], how.size[0])
        bands = [np.asarray(Image.fromarray(band).resize(size, resampling(how), box=box)) for band in self.values]
        # Bicubic filters overshoot, in photographs too.
        return torch.from_numpy(np.stack(bands)).clamp(0, 1)

    def shown(self) -> Image.Image:
        """What a reader sees of it: 8-bit RGB."""
        chosen = self.values[list(self.show)]
        pixels = np.rint(np.broadcast_to(chosen, (3, *chosen.shape[1:])) * 255).astype(np.uint8)
        return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def as_bands(found: NDArray[Any], how: Preprocess, name: str) -> Bands:
    """An array (h, w), (h, w, bands) or (bands, h, w) as a picture for a network.

    The bands' axis is the one as long as the network has channels; one or three bands also do for a network of three or
    one, as of photographs. Raises `UndecodableError` for what is no image, `FeedError` for an image that the network
    cannot be fed: other bands, or numbers outside what they may be.
    """
    planes = _planes(found, how, name)
    if planes.shape[1] * planes.shape[2] > MOST_PIXELS:
        raise UndecodableError(f"it has {planes.shape[2]} x {planes.shape[1]} pixels; at most {MOST_PIXELS:,} are read")
    values = _in_unit(planes, how, name, sure=found.ndim == 3)
    if len(values) == 3 and how.channels == 1:
        values = np.tensordot(_LUMA, values, 1)[None]
    if len(values) == 1 and how.channels == 3:
        values = np.repeat(values, 3, 0)
    return Bands(np.ascontiguousarray(values), shown_bands(how))


def _planes(found: NDArray[Any], how: Preprocess, name: str) -> NDArray[Any]:
    """(bands, h, w), not yet copied."""
    counts = {1: (1, 3), 3: (3, 1)}.get(how.channels, (how.channels,))
    if found.ndim == 2 and 1 in counts:
        found = found[None]
    if found.ndim != 3 or not found.size:
        shape = " x ".join(map(str, found.shape)) or "one number"
        raise UndecodableError(f"its shape {shape} is none of an image of {told_bands(how)}")
    for count in counts:
        first, last = found.shape[0] == count, found.shape[2] == count
        if first and last and found.shape[1] != 1:
            raise FeedError(
                f"{name} has the shape {found.shape}: its {count} bands may come first or last. Give it another height "
                "or width, or turn it round and cut it so that one axis alone has that length."
            )
        if first or last:
            return found if first else found.transpose(2, 0, 1)
    shape = " x ".join(map(str, found.shape))
    if how.channels in (1, 3):
        raise UndecodableError(f"its shape {shape} is none of an image of {told_bands(how)}")
    raise refused(how, name, f"{shape} numbers, of which no axis has that length")


def _in_unit(planes: NDArray[Any], how: Preprocess, name: str, *, sure: bool) -> NDArray[np.float32]:
    """The numbers in [0, 1]. sure: whether the array is an image beyond doubt."""
    if planes.dtype.kind == "f" and not np.isfinite(planes).all():
        raise UndecodableError("it holds numbers that are not finite (NaN or infinity)")
    if how.range is not None:
        low, high = how.range
        scaled = (planes.astype(np.float64) - low) / (high - low)
        return scaled.clip(0, 1).astype(np.float32)
    whole = {"b": 1, "f": 1}.get(planes.dtype.kind, {1: 255, 2: 65535}.get(planes.dtype.itemsize, 0))
    least, most = float(planes.min()), float(planes.max())
    if whole and least >= 0 and most <= whole:
        return np.divide(planes, whole, dtype=np.float32) if planes.dtype.kind != "f" else planes.astype(np.float32)
    what = f"{planes.dtype} numbers from {least:.4g} to {most:.4g}"
    if not sure:
        raise UndecodableError(f"it holds {what}, and an image's lie in [0, 1] (or state their range)")
    normalised = " They look like what Normalize makes: leave it out, the model has mean and std of its own."
    raise FeedError(
        f"{name} holds {what}, and floats lie in [0, 1], 8 bits from 0 to 255, 16 bits from 0 to 65535: say which "
        f"numbers mean 0 and 1, such as Model.wrap(..., range=(0, 10000)).{normalised * (least < 0 and most < 20)}"
    )
