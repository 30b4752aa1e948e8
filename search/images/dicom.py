"""An image of DICOM -> an array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featviz.errors import UserError

from .decode import MOST_BYTES, UndecodableError, regular, why


def read_dicom(file: Path) -> NDArray[Any]:
    """The image of a DICOM file: (1, h, w), or (h, w, 3) in colour.

    What the file rescales, such as to Hounsfield units, is rescaled, and a network has to state their range. Other
    numbers lie in [0, 1], by the bits that the file says it stores. `MONOCHROME1`, where 0 is white, is turned round.
    Raises `UserError` where pydicom is not installed, `UndecodableError` for a file that is damaged or too large, or
    holds several frames.
    """
    try:
        import pydicom
        from pydicom.pixels.processing import apply_rescale
        from pydicom.pixels.utils import pixel_array
    except ImportError as error:
        raise UserError("DICOM files need an extra: pip install 'activation-atlas[medical]'.") from error
    try:
        with regular(file) as stream:
            found = pydicom.dcmread(stream)
            frames = int(found.get("NumberOfFrames") or 1)
            if frames > 1:
                raise UndecodableError(f"it holds {frames} frames, and one is taken: give each as a file of its own")
            if found.Rows * found.Columns * found.get("SamplesPerPixel", 1) * 8 > MOST_BYTES:
                raise UndecodableError(f"its numbers take more than {MOST_BYTES:,} bytes")
            stored: NDArray[Any] = pixel_array(found)
            stored = stored if stored.ndim == 3 else stored[None]
    except UndecodableError:
        raise
    except Exception as error:  # a damaged file raises almost anything
        raise UndecodableError(why(error)) from error
    low = -(2 ** (found.BitsStored - 1)) if found.get("PixelRepresentation") else 0
    high = low + 2**found.BitsStored - 1
    if found.PhotometricInterpretation == "MONOCHROME1":
        stored = low + high - stored.astype(np.int64)
    if "RescaleSlope" in found or "ModalityLUTSequence" in found:
        rescaled: NDArray[Any] = apply_rescale(stored, found)
        return rescaled
    return (stored.astype(np.float64) - low) / (high - low) if found.BitsStored != 8 or low else stored.astype(np.uint8)
