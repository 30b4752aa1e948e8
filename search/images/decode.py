"""A photograph's file of any kind -> 8-bit RGB (or greyscale), upright; and the part of it that a view shows."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor

from featviz.errors import UserError
from featviz.network.arguments import interpolation_name
from featviz.network.bands import told_bands
from featviz.network.models import Preprocess
from featviz.seeds import generator_for

Box = tuple[float, float, float, float]


# Larger images are refused by their header, before they are decoded: as many pixels as Pillow decodes without a
# warning, 256 MiB as RGB. No file of more bytes is read: some decoders read all of it at once.
MOST_PIXELS, MOST_BYTES = 2**28 // 3, 2**30
# What may lie in a file of any of the suffixes, whichever it has. Not all that Pillow knows: each decoder is one more
# to trust, and that of EPS runs a program.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "DIB")
# EXIF's tag for how a camera was held, and what its values ask for.
ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# TIFF's tags, and those of their values that Pillow goes by or should.
_BITS, _COMPRESSION, _PHOTOMETRIC, _PLANES, _FORMAT = 258, 259, 262, 284, 339
_UNCOMPRESSED, _WHITE_IS_0, _SEPARATE, _SIGNED = 1, 0, 2, 2
# Values of a deep image that are worked on at once.
_AT_ONCE = 2**20


class Cuttable(Protocol):
    """An image that is no photograph: `size` (width, height), and its parts as `cut` gives them."""

    @property
    def size(self) -> tuple[int, int]: ...

    def cut(self, box: Box, how: Preprocess) -> Tensor: ...


class UndecodableError(OSError):
    """A file that is no image, or one that is damaged or too large: says why, and not where the file lies."""


class FeedError(UserError):
    """An image of a kind that the network cannot be fed: all the others are of it, so that nothing goes on."""


def refused(how: Preprocess, name: str, holds: str) -> FeedError:
    """The error for an image of a kind that the network cannot be fed."""
    return FeedError(
        f"the network takes images of {told_bands(how)}, and {name} holds {holds}: give images with their bands, as "
        ".npy, .npz or multi-band .tif."
    )


def open_upright(file: Path | BinaryIO | Image.Image) -> Image.Image:
    """A decoded 8-bit RGB image, turned as its EXIF orientation says, transparent parts on white.

    Greyscale, palette, CMYK, alpha, 16-bit, 32-bit and floating-point images are converted; of an animation, the first
    frame. Raises `UndecodableError` for a file that is no image, is damaged, is larger than `MOST_PIXELS`, or is a TIFF
    of a kind that Pillow takes for another.
    """
    if isinstance(file, Image.Image):
        return _upright_rgb(file)
    with opened(file) as image:
        return _upright_rgb(image)


@contextmanager
def opened(file: Path | BinaryIO) -> Iterator[Image.Image]:
    """The image of a file, of which only the header has been read; decode it inside the `with`.

    Raises `UndecodableError`, also for what goes wrong inside the `with`. A FIFO, a socket or a device is never opened.
    """
    with warnings.catch_warnings():
        # What Pillow warns of either does not matter to the pixels or is an error here.
        warnings.simplefilter("ignore")
        try:
            if not isinstance(file, Path):
                yield _checked(Image.open(file, formats=_formats()))
                return
            with regular(file) as stream, Image.open(stream, formats=_formats()) as image:
                yield _checked(image)
        except UndecodableError:
            raise
        except Exception as error:  # Pillow's decoders raise almost anything on a damaged file
            raise UndecodableError(why(error)) from error


def refuse_misread(image: Image.Image) -> None:
    """Raise `UndecodableError` for a TIFF whose numbers Pillow takes for others, without a word."""
    if not isinstance(image, TiffImageFile):
        return
    if image.mode == "L" and _SIGNED in image.tag_v2.get(_FORMAT, ()):
        raise UndecodableError("it holds signed numbers of 8 bits, which Pillow reads as unsigned ones")
    raw = image.tag_v2.get(_COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED
    if raw and image.tag_v2.get(_PLANES) == _SEPARATE and _bits(image) > 8:
        raise UndecodableError("it holds uncompressed planes of 16 bits, of which Pillow makes noise")


def is_cut_down(image: Image.Image) -> bool:
    """Whether Pillow makes 8 bits of an opened image's deeper colours; it keeps grey as deep as it is."""
    if isinstance(image, TiffImageFile):
        return _bits(image) > 8 and not image.mode.startswith(("I", "F"))
    for part in getattr(image, "tile", ()):  # gone once it is decoded
        if image.format == "PNG" and ";16" in str(part[3]) and image.mode != "I;16":
            return True
        if image.format == "PPM" and image.mode == "RGB" and part[0].startswith("ppm") and part[3][1] > 255:
            return True
    return False


def white_is_0(image: Image.Image) -> bool:
    """Whether an image is a TIFF that stores how dark its places are."""
    return isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_0


def _bits(image: TiffImageFile) -> int:
    """Of a sample, at most."""
    return max(image.tag_v2.get(_BITS) or (1,))


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of an opened image once it is upright."""
    # A PNG without EXIF data would be decoded to its end in search of some.
    known = image.format != "PNG" or "exif" in image.info
    return (image.height, image.width) if known and _orientation(image) >= 5 else image.size


def regular(file: Path) -> BinaryIO:
    """The file, opened; not by its name, which Pillow's messages would tell, and only if it is one."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise UndecodableError("it is no regular file")
    # Had it become a FIFO since, opening it would not wait.
    stream = os.fdopen(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    if os.fstat(stream.fileno()).st_size > MOST_BYTES:
        stream.close()
        raise UndecodableError(f"the file is larger than {MOST_BYTES:,} bytes")
    return stream


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _checked(image: Image.Image) -> Image.Image:
    if image.width * image.height > MOST_PIXELS:
        raise UndecodableError(f"it has {image.width} x {image.height} pixels; at most {MOST_PIXELS:,} are decoded")
    return image


def why(error: Exception) -> str:
    """What went wrong with an image, in words."""
    if isinstance(error, UndecodableError):
        return str(error)
    text = str(error)
    if isinstance(error, UnidentifiedImageError):
        text = "cannot identify image file"
    elif isinstance(error, Image.DecompressionBombError):
        return f"it has far more than the {MOST_PIXELS:,} pixels that are decoded at most"
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror
    return f"{type(error).__name__}: {text}"


def _orientation(image: Image.Image) -> int:
    """1 to 8; 1, as it is stored, where EXIF data say nothing that can be read: the pixels may still be whole."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1
    return found if isinstance(found, int) and found in _TURNS else 1


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says."""
    image.load()  # which turns a TIFF, and would do so again
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _upright_rgb(image: Image.Image) -> Image.Image:
    refuse_misread(image)
    dark = white_is_0(image)  # of 8 bits and fewer, Pillow turns them round itself
    image = upright(image)
    if image.mode.startswith(("I", "F")):
        image = _deep_to_grey(image)
        image = ImageOps.invert(image) if dark else image
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _deep_to_grey(image: Image.Image) -> Image.Image:
    """16-bit integers keep their share of 65535; floats in [0, 1] of 1; anything else is stretched to its range.

    NaN is black; infinity is the end of the range.
    """
    values = np.asarray(image)
    parts = np.array_split(values.reshape(-1), -(-values.size // _AT_ONCE))
    finite = [part[np.isfinite(part)] for part in parts]
    low = min((float(part.min()) for part in finite if part.size), default=0.0)
    high = max((float(part.max()) for part in finite if part.size), default=0.0)
    usual = 1.0 if image.mode == "F" else 65535.0
    if low >= 0 and high <= usual:
        low, high = 0.0, usual
    shares = (
        np.nan_to_num((part.astype(np.float64) - low) / max(high - low, 1e-12), nan=0, posinf=1, neginf=0)
        for part in parts
    )
    grey = np.concatenate([(share * 255).round().astype(np.uint8) for share in shares])
    return Image.fromarray(grey.reshape(values.shape))


def central_box(size: tuple[int, int], how: Preprocess) -> Box:
    """The central crop (left, top, right, bottom) in pixels of an image of (width, height) = `size`."""
    width, height = _largest(size, how.size)
    return _box(size, (width * how.crop, height * how.crop), (0.5, 0.5))


def central_view(image: Image.Image | Cuttable, how: Preprocess) -> Tensor:
    """What the network sees of an upright image by default: (channels, h, w) in [0, 1]."""
    return in_unit(cut(image, central_box(image.size, how), how))


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


def cut(image: Image.Image | Cuttable, box: Box, how: Preprocess) -> Tensor:
    """The box of the image at the network's input size, (channels, h, w): uint8 of a photograph, of bands float32.

    Raises `FeedError` for a photograph where the network takes bands.
    """
    if not isinstance(image, Image.Image):
        return image.cut(box, how)
    if how.channels not in (1, 3):  # copies of one grey in every band would be nonsense
        raise refused(how, "the image", f"a photograph ({image.mode})")
    # reducing_gap speeds up large reductions; from 3 on Pillow's result is indistinguishable from the full filter.
    part = image.resize((how.size[1], how.size[0]), resampling(how), box=box, reducing_gap=3.0)
    pixels = np.array(part if how.channels == 3 else part.convert("L"))
    return torch.from_numpy(pixels).permute(2, 0, 1) if pixels.ndim == 3 else torch.from_numpy(pixels)[None]


def in_unit(pixels: Tensor) -> Tensor:
    """What was cut, in [0, 1]: of 8 bits their share of 255, floats as they are."""
    return pixels if pixels.is_floating_point() else pixels.float() / 255


def resampling(how: Preprocess) -> Image.Resampling:
    """The filter that images are resized by."""
    return Image.Resampling[interpolation_name(how.interpolation).upper()]


def _largest(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float]:
    """(width, height) of the largest box with the proportions of (height, width) = `wanted` in an image of `size`."""
    scale = min(size[0] / wanted[1], size[1] / wanted[0])
    return wanted[1] * scale, wanted[0] * scale


def _box(size: tuple[int, int], extent: tuple[float, float], place: tuple[float, float]) -> Box:
    left, top = (size[0] - extent[0]) * place[0], (size[1] - extent[1]) * place[1]
    return (max(left, 0.0), max(top, 0.0), min(left + extent[0], size[0]), min(top + extent[1], size[1]))
