"""Cells -> icons: the picture whose activation at the centre points where the cell's mean points, once whitened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featviz.canvas import DECAY, Fourier
from featviz.maximize import chunk_for, maximize, score
from featviz.models import Model
from featviz.objectives import cosine, direction, within
from featviz.output import Arrays
from featviz.progress import Progress, silent
from featviz.transforms import Affine
from featviz.trunk import Trunk

from .grid import Cell

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

# How a run keeps each finished block: (name, compute) -> arrays. The default keeps nothing.
Keep = Callable[[str, Callable[[], Arrays]], Arrays]


def whitener(vectors: Floats, *, ridge: float = 0.05) -> Tensor:
    """(c, c) inverse of the vectors' second moment, with `ridge` times its mean diagonal added before.

    Carter et al. 2019, "Activation Atlas": the uncentred second moment over all vectors, inverted. The ridge keeps
    channels that hardly vary from drowning the rest.
    """
    raw = torch.from_numpy(vectors).double()
    moment = raw.T @ raw / len(raw)
    scale = moment.diagonal().mean().clamp(min=1e-12)
    inverse: Tensor = torch.linalg.inv(moment + ridge * scale * torch.eye(len(moment), dtype=torch.float64))
    return inverse.float()


def draw_icons(
    model: Model,
    layer: str,
    cells: Sequence[Cell],
    whitening: Tensor,
    *,
    channels: Sequence[int] | None = None,
    icon: int = 80,
    steps: int = 128,
    attempts: int = 1,
    lr: float = 0.15,
    power: float = 4.0,
    seed: int = 0,
    keep: Keep = lambda name, compute: compute(),
    progress: Progress = silent,
) -> tuple[Bytes, Floats]:
    """The cells' icons (n, icon, icon, 3) and their scores (n,), cosines in [-1, 1].

    whitening: (c, c) from `whitener`. channels: of the layer, the c that means and whitening are of, None for all: the
    pictures then excite those alone, and the others count neither for the objective nor for the score. The score is
    measured in one clean pass of the unaltered network on the icon as it is saved. Each block of icons goes through
    `keep(name, compute)`, which may store it for a later run.
    """
    if not cells:
        return np.empty((0, icon, icon, 3), np.uint8), np.empty(0, np.float32)
    means = torch.from_numpy(np.stack([cell.mean for cell in cells]))
    objective = direction(layer, means, power=power, whitening=whitening)
    measure = cosine(layer, means @ whitening)
    if channels is not None:
        objective, measure = within(objective, layer, channels), within(measure, layer, channels)
    trunk, clean = Trunk(model, [layer]), Trunk(model, [layer], fold=False)
    block = 2 * chunk_for((icon, icon), trunk.device)
    images, scores = [], []
    for start in range(0, len(cells), block):
        numbers = list(range(start, min(start + block, len(cells))))

        def report(stage: str, done: int, total: int, before: int = start, now: int = len(numbers)) -> None:
            progress("drawing icons", before + now * done // total, len(cells))

        def compute(numbers: list[int] = numbers, report: Progress = report) -> Arrays:
            drawn = maximize(
                model,
                objective,
                keys=[cell.key for cell in cells],
                pictures=numbers,
                size=icon,
                steps=steps,
                lr=lr,
                canvas=partial(Fourier, decay=DECAY),
                transform=icon_transform(icon),
                attempts=attempts,
                seed=seed,
                trunk=trunk,
                progress=report,
            )
            cosines = score(clean, measure, drawn.images, numbers)
            return {"images": as_rgb(drawn.images), "scores": cosines.numpy()}

        made = keep(f"icons-{start:06d}", compute)
        progress("drawing icons", numbers[-1] + 1, len(cells))
        images.append(made["images"])
        scores.append(made["scores"])
    return np.concatenate(images), np.concatenate(scores)


def icon_transform(icon: int) -> Affine:
    """Shifts grow with the icon, as a fixed number of pixels would hide more of a small one."""
    return Affine(shift=icon / 16, scale=(0.9, 1.1), degrees=10)


def as_rgb(images: Tensor) -> Bytes:
    """8-bit (n, channels, h, w) -> (n, h, w, 3): grey is repeated, of more than three channels the first three show."""
    pixels = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images[:, :3]
    if pixels.shape[1] == 2:
        pixels = torch.cat([pixels, torch.zeros_like(pixels[:, :1])], 1)
    return pixels.permute(0, 2, 3, 1).contiguous().numpy()


def sheet(cells: Sequence[Cell], icons: Bytes, level: int) -> Bytes:
    """All icons of a level in one RGBA picture (level * icon, level * icon, 4); empty cells are transparent."""
    size = icons.shape[1]
    canvas = np.zeros((level * size, level * size, 4), np.uint8)
    for cell, picture in zip(cells, icons, strict=True):
        if cell.level == level:
            tile = canvas[cell.row * size : (cell.row + 1) * size, cell.col * size : (cell.col + 1) * size]
            tile[..., :3], tile[..., 3] = picture, 255
    return canvas
