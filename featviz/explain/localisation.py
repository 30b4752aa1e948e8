"""A map over an image -> the box of the thing it marks."""

from __future__ import annotations

import numpy as np
from torch import Tensor

# (left, top, right, bottom) in pixels, half-open.
Box = tuple[int, int, int, int]


def strongest_box(found: Tensor, *, threshold: float = 0.2) -> Box | None:
    """The box about the largest connected part of a map (height, width) above a share of its maximum, or None.

    Zhou, Khosla, Lapedriza, Oliva and Torralba 2016, "Learning Deep Features for Discriminative Localization": a fifth.
    """
    values = found.numpy()
    if not values.max() > 0:
        return None
    from scipy import ndimage

    parts, count = ndimage.label(values >= threshold * values.max())
    sizes = ndimage.sum_labels(np.ones_like(values), parts, range(1, count + 1))
    rows, columns = ndimage.find_objects(parts)[int(np.argmax(sizes))]
    return (columns.start, rows.start, columns.stop, rows.stop)
