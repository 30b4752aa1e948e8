"""Arrays and pictures -> the inert text that a page holds them as."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Pictures in one sheet.
PER_SHEET = 100
_QUALITY = 75


def array(values: Any, kind: type) -> str:
    """Numbers as base64, little-endian, as the viewer's typed arrays read them."""
    made = np.ascontiguousarray(np.asarray(values, dtype=np.dtype(kind).newbyteorder("<")))
    return base64.b64encode(made.tobytes()).decode("ascii")


def shares(values: NDArray[Any]) -> tuple[str, str]:
    """Rows of numbers as shares of their row's largest, int8 (127 is it), and how large that is."""
    scale = np.abs(values).max(1).clip(1e-12)
    return array(np.round(values / scale[:, None] * 127), np.int8), array(scale, np.float32)


def picture(image: Image.Image, *, quality: int = _QUALITY) -> str:
    """A picture as base64 WebP."""
    stream = BytesIO()
    image.save(stream, "WEBP", quality=quality, method=4)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def sheets(pictures: Sequence[NDArray[np.uint8]], name: str, *, columns: int = 0) -> dict[str, str]:
    """Pictures of one size as sheets `NAME/0`, `NAME/1`, ... of 100, ten in a row or as few as there are."""
    made = {}
    for start in range(0, len(pictures), PER_SHEET):
        made[f"{name}/{start // PER_SHEET}"] = _sheet(pictures[start : start + PER_SHEET], columns)
    return made


def resized(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A square picture at another size."""
    if len(image) == side:
        return image
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS))


def _sheet(pictures: Sequence[NDArray[np.uint8]], columns: int) -> str:
    side, columns = len(pictures[0]), columns or min(10, len(pictures))
    sheet = Image.new("RGB", (columns * side, -(-len(pictures) // columns) * side))
    for number, each in enumerate(pictures):
        sheet.paste(Image.fromarray(each), (number % columns * side, number // columns * side))
    return picture(sheet)
