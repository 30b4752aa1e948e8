"""A drawn picture -> its PNG, and all of its bands beside where a PNG shows a part of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..network.bands import visible
from ..network.models import Preprocess
from ..run.output import OutputFolder


def as_png(picture: Tensor, alpha: Tensor | None = None, show: Sequence[int] = ()) -> Image.Image:
    """An 8-bit picture (channels, h, w) and its opacity (h, w) as an image: one channel is grey, three are RGB.

    show: which channels to see, of other numbers; none: the first three, of two the first.
    """
    seen = visible(picture, show)
    if alpha is not None:
        seen = torch.cat([seen, alpha[None]])
    pixels = seen[0] if len(seen) == 1 else seen.permute(1, 2, 0)
    return Image.fromarray(pixels.contiguous().numpy())


def write_picture(folder: OutputFolder, file: str, picture: Tensor, alpha: Tensor | None, how: Preprocess) -> None:
    """Save an 8-bit picture (channels, h, w) as PNG; of more bands than that shows, all of it beside, as .npy."""
    folder.write(file, partial(as_png(picture, alpha, how.show).save, format="PNG"))
    if len(picture) not in (1, 3):
        folder.write(f"{file.removesuffix('.png')}.npy", partial(_save, picture.numpy()))


def _save(values: Any, path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, values)
