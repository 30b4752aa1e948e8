"""The part of a photograph that an activation saw, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featviz.errors import UserError
from featviz.network.models import Model
from featviz.progress import Progress, silent
from search.exemplars.sheet import crop
from search.images.decode import Box, UndecodableError
from search.images.image_set import first_views, readable
from search.images.images import Images
from search.scan.receptive import ReceptiveFields, effective_size, receptive_fields

from .grid import Cell
from .sample import Sample

# Photographs whose gradients say how far a position sees.
_MEASURED = 8


@dataclass(frozen=True)
class Photographs:
    """Crops of the images behind a sample: of each vector, the part of its image that moves it.

    The middle nine tenths of the gradient's energy about the place that the position looks at (`effective_size`), kept
    inside the view that the network was shown.
    """

    images: Images
    found: Sample
    fields: ReceptiveFields
    extent: tuple[float, float]

    @classmethod
    def of(cls, model: Model, layer: str, images: Images, found: Sample, *, seed: int = 0) -> Photographs:
        """Those of a layer's sample; measures on a few of the images how far its positions see."""
        views = first_views(images, model.preprocess, _MEASURED)
        size = model.preprocess.size
        extent = effective_size(model, layer, views, seed=seed) if len(views) else (size[0], size[1])
        return cls(images, found, receptive_fields(model, [layer])[layer], extent)

    def box(self, row: int) -> Box:
        """Of a row of the sample: left, top, right, bottom in pixels of the upright original."""
        place, view = self.found.position[row], self.found.box[row].tolist()
        seen = self.fields.effective_box(int(place[0]), int(place[1]), self.extent)
        return self.fields.in_image(seen, (view[0], view[1], view[2], view[3]))

    def crop(self, row: int, side: int) -> Image.Image:
        """That part as a square picture of so many pixels."""
        number = int(self.found.image[row])
        try:
            return crop(self.images.open(number), self.box(row), side)
        except UndecodableError as error:
            name = readable(self.images.names[number])
            raise UserError(f"{name} could be read before and cannot be read now: {error}.") from error

    def of_cells(self, cells: Sequence[Cell], side: int, *, progress: Progress = silent) -> NDArray[np.uint8]:
        """(cells, side, side, 3): for each cell, the part of the photograph whose activation is nearest to its mean."""
        pictures = []
        for number, cell in enumerate(cells, 1):
            pictures.append(np.asarray(self.crop(cell.nearest[0], side)))
            progress("cutting photographs", number, len(cells))
        return np.stack(pictures)
