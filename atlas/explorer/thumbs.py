"""The photographs of a page: each view that the network was shown once, small."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from search.images.image_set import readable

if TYPE_CHECKING:
    from ..photos import Photographs

# Their side in pixels, and how many a page holds at most.
THUMB, MOST_THUMBS = 96, 1500
# (its number, the box seen in it as shares of its sides, its image's name's number)
Seen = tuple[int, list[float], int]


class Thumbs:
    """Photographs as the network saw them: `pictures`, and the `names` of their images."""

    def __init__(self) -> None:
        self.pictures: list[NDArray[np.uint8]] = []
        self.names: list[str] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self._names: dict[str, int] = {}

    def of(self, photographs: Photographs, row: int) -> Seen | None:
        """What a row of the sample saw; None where its image cannot be opened, or the page is full."""
        found = photographs.found
        view = tuple(float(side) for side in found.box[row])
        key = (id(photographs.images), int(found.image[row]), view)
        if key not in self._known:
            if len(self.pictures) >= MOST_THUMBS:
                return None
            try:
                image = photographs.images.open(int(found.image[row]))
            except Exception:  # Pillow's decoders raise almost anything on a file that was damaged since
                return None
            part = image.resize((THUMB, THUMB), Image.Resampling.LANCZOS, box=(view[0], view[1], view[2], view[3]))
            self._known[key] = len(self.pictures)
            self.pictures.append(np.asarray(part.convert("RGB")))
        left, top, right, bottom = photographs.box(row)
        wide, high = view[2] - view[0], view[3] - view[1]
        box = [(left - view[0]) / wide, (top - view[1]) / high, (right - view[0]) / wide, (bottom - view[1]) / high]
        name = readable(photographs.images.names[int(found.image[row])])
        place = self._names.setdefault(name, len(self._names))
        if place == len(self.names):
            self.names.append(name)
        return self._known[key], [round(side, 3) for side in box], place

    def of_rows(self, photographs: Photographs, rows: list[int]) -> list[Seen]:
        """What the rows saw, those left out of which nothing can be shown."""
        return [seen for seen in (self.of(photographs, row) for row in rows) if seen is not None]
