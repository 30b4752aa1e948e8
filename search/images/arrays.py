"""Files that hold numbers, not photographs: .npy, .npz, DICOM and multi-band TIFF -> an array, read exactly."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from featviz.errors import UserError

from .decode import MOST_BYTES, ORIENTATION, UndecodableError, regular, why
from .dicom import read_dicom

# Files of arrays alone, and those that may hold a photograph or many bands.
ARRAYS, TIFFS, DICOM = frozenset((".npy", ".npz", ".dcm")), frozenset((".tif", ".tiff")), ".dcm"


def is_array(file: Path) -> bool:
    """Whether a file is one of arrays by its name."""
    return file.suffix.lower() in ARRAYS


def is_tiff(file: Path) -> bool:
    """Whether a file is a TIFF by its name."""
    return file.suffix.lower() in TIFFS


def read_array(file: Path) -> NDArray[Any]:
    """The array of a .npy file, the only one of an .npz file, or the image of a DICOM file.

    Raises `UndecodableError` for a file that is damaged or too large, holds several arrays, or anything but numbers.
    """
    if file.suffix.lower() == DICOM:
        return read_dicom(file)
    try:
        with regular(file) as stream:
            found = _from_zip(stream) if file.suffix.lower() == ".npz" else _from_npy(stream)
    except UndecodableError:
        raise
    except Exception as error:  # a damaged header raises almost anything
        raise UndecodableError(why(error)) from error
    return _numbers(found)


def read_tiff(file: Path) -> NDArray[Any]:
    """The first image of a TIFF, upright: (h, w), or its bands before or behind, be they samples, planes or pages.

    Raises `UserError` where tifffile is not installed, `UndecodableError` for a file that is damaged or too large.
    """
    try:
        import tifffile
    except ImportError as error:
        raise UserError("multi-band TIFF files need an extra: pip install 'activation-atlas[bands]'.") from error
    try:
        with _quiet(), regular(file) as stream, tifffile.TiffFile(stream, name=file.name) as tiff:
            first = tiff.series[0]
            # Pages that were written one by one are images of their own; overviews have other sizes.
            alike = [each for each in tiff.series if (each.shape, each.dtype) == (first.shape, first.dtype)]
            if sum(each.size * each.dtype.itemsize for each in alike) > MOST_BYTES:
                raise UndecodableError(f"its numbers take more than {MOST_BYTES:,} bytes")
            held = first.keyframe.tags.get(ORIENTATION)
            turn = 1 if held is None else held.value
            if first.ndim == 2 and len(alike) > 1:
                return _numbers(_turned(np.stack([each.asarray() for each in alike]), turn, 1, 2))
            found = np.asarray(first.asarray())
            kept = [number for number, axis in enumerate(first.axes) if axis in "YX" or found.shape[number] > 1]
            axes = [first.axes[number] for number in kept]
            found = found.reshape([found.shape[number] for number in kept])
            found = _turned(found, turn, axes.index("Y"), axes.index("X"))
    except UndecodableError:
        raise
    except Exception as error:  # likewise
        raise UndecodableError(why(error)) from error
    return _numbers(found)


def _turned(found: NDArray[Any], orientation: Any, rows: int, columns: int) -> NDArray[Any]:
    """The array upright, as an orientation of 1 to 8 says; rows, columns: its axes of these."""
    if orientation in (5, 6, 7, 8):
        found = found.swapaxes(rows, columns)
    if orientation in (3, 4, 7, 8):
        found = np.flip(found, rows)
    return np.flip(found, columns) if orientation in (2, 3, 6, 7) else found


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside the `with`, tifffile does not log what is odd about a file: what it cannot read, it raises."""
    log = logging.getLogger("tifffile")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)


def _from_npy(stream: BinaryIO) -> NDArray[Any]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(stream)
    if prod(shape) * kind.itemsize > MOST_BYTES:
        raise UndecodableError(f"its numbers take more than {MOST_BYTES:,} bytes")
    stream.seek(0)
    found: NDArray[Any] = np.load(stream, allow_pickle=False)
    return found


def _from_zip(stream: BinaryIO) -> NDArray[Any]:
    with zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
        if len(entries) != 1:
            names = ", ".join(entry.filename.removesuffix(".npy")[:40] for entry in entries[:5])
            raise UndecodableError(f"it holds {len(entries)} arrays ({names}), and one is taken")
        if entries[0].file_size > MOST_BYTES:
            raise UndecodableError(f"its numbers take more than {MOST_BYTES:,} bytes")
        with archive.open(entries[0]) as inner:
            found: NDArray[Any] = np.lib.format.read_array(inner, allow_pickle=False)
            return found


def _numbers(found: NDArray[Any]) -> NDArray[Any]:
    if found.dtype.kind not in "buif":
        raise UndecodableError(f"it holds {found.dtype}, and images are of numbers")
    return found
