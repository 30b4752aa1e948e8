"""Whatever holds an image, a file or a data set's item -> what views are cut from: a photograph, or bands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from featviz.network.models import Preprocess

from .arrays import is_array, is_tiff, read_array, read_tiff
from .bands import Bands, as_bands
from .decode import UndecodableError, is_cut_down, open_upright, opened, refuse_misread, refused, upright, white_is_0

Picture = Image.Image | Bands


def open_picture(file: Path, how: Preprocess) -> Picture:
    """The image of a file as a network is to see it.

    Raises `UndecodableError` for what is no image, `FeedError` (a `UserError`) for an image of a kind that the network
    cannot be fed, such as a photograph for one of seven bands.
    """
    if is_array(file):
        return _from_array(read_array(file), how, file.name)
    photographs = how.channels in (1, 3)
    if is_tiff(file) and not photographs:
        return as_bands(read_tiff(file), how, file.name)
    if not photographs:
        with opened(file) as image:
            mode = image.mode
        raise refused(how, file.name, f"a photograph ({mode})")
    try:
        if how.range is None:
            return open_upright(file)
        with opened(file) as image:
            numbers = _stored(image)
        return as_bands(numbers, how, file.name)
    except UndecodableError:
        if is_tiff(file) and (found := _known_to_tifffile(file)) is not None:
            return as_bands(found, how, file.name)
        raise


def as_picture(item: Any, how: Preprocess, name: str = "the item") -> Picture:
    """An image that is open already: Pillow's, an array (h, w), (h, w, bands) or (bands, h, w), or a tensor.

    Raises as `open_picture` does.
    """
    if isinstance(item, torch.Tensor):
        found = item.detach().cpu()
        item = (found.float() if found.dtype == torch.bfloat16 else found).numpy()
    if isinstance(item, np.ndarray):
        if item.dtype.kind not in "buif":
            raise UndecodableError(f"it holds {item.dtype}, and images are of numbers")
        return _from_array(item, how, name)
    if isinstance(item, Image.Image):
        if how.channels not in (1, 3):
            raise refused(how, name, f"a photograph ({item.mode})")
        return open_upright(item) if how.range is None else as_bands(_stored(item), how, name)
    raise UndecodableError(f"it is {type(item).__name__}, and no image, array or tensor")


def image_of(item: Any) -> Any:
    """The image in a data set's item: the item itself, the first of several, or what a dict calls so."""
    if isinstance(item, (tuple, list)) and item:
        return item[0]
    if isinstance(item, Mapping):
        return next((item[key] for key in ("image", "pixel_values", "img", "x") if key in item), None)
    return item


def seen_by_nobody(found: Any) -> Preprocess:
    """How to look at an array where no network says how many bands it has: the shorter of its outer axes are bands."""
    shape = tuple(getattr(found, "shape", (1,)))
    bands = min(shape[0], shape[-1]) if len(shape) == 3 else 1
    return Preprocess(mean=(0.5,) * bands, std=(0.5,) * bands)


def _from_array(found: NDArray[Any], how: Preprocess, name: str) -> Picture:
    """A picture of bands, or the photograph itself where 8 bits hold all of it."""
    made = as_bands(found, how, name)
    if how.channels not in (1, 3) or how.range is not None:
        return made
    eighths = made.values * 255
    pixels = np.rint(eighths)
    exact = found.dtype == np.uint8 or (found.dtype.kind == "f" and bool(np.abs(eighths - pixels).max() < 1e-3))
    if not exact or (how.channels == 1 and found.ndim == 3 and 1 not in (found.shape[0], found.shape[2])):
        return made
    planes = pixels.astype(np.uint8)
    return Image.fromarray(np.repeat(planes, 3 // len(planes), 0).transpose(1, 2, 0).copy())


def _stored(image: Image.Image) -> NDArray[Any]:
    """The numbers that a photograph stores, upright: grey as deep as it is, else RGB.

    Raises `UndecodableError` for colours deeper than 8 bits, which Pillow cuts down.
    """
    refuse_misread(image)
    if is_cut_down(image):
        raise UndecodableError(
            "its colours are deeper than 8 bits and would be cut to 8, and the range is one of stored numbers: save it "
            "as .npy, or as a TIFF without alpha and compression (which needs pip install 'activation-atlas[bands]')"
        )
    turned_round = white_is_0(image) and image.mode == "L"  # by Pillow
    image = upright(image)
    grey = image.mode.startswith(("I", "F")) or image.mode == "L"
    numbers = np.asarray(image if grey else image.convert("RGB"))
    return 255 - numbers if turned_round else numbers


def _known_to_tifffile(file: Path) -> NDArray[Any] | None:
    """What tifffile reads of a TIFF that Pillow cannot, such as 16-bit RGB; None where it cannot, or is not there."""
    try:
        return read_tiff(file)
    except Exception:  # the first error says more
        return None
