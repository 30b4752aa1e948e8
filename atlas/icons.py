"""Cells -> icons: the picture whose activation at the centre points where the cell's mean points, once whitened."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featviz.draw import color
from featviz.draw.canvas import DECAY, Fourier, calm
from featviz.draw.maximize import maximize
from featviz.draw.noise import noise_limit
from featviz.draw.objectives import Objective, cosine, direction, within
from featviz.draw.robust import robust_score, score
from featviz.draw.transforms import Chain, views
from featviz.network.bands import visible
from featviz.network.batch_size import chunk_by_trying, chunk_for
from featviz.network.models import Model
from featviz.network.trunk import Precision, Trunk
from featviz.progress import Progress, silent
from featviz.run.engine import LOCAL, Engine, Place, Report, Work, blocks, kept_map, shares
from featviz.run.keep import NOWHERE, Arrays, Keep
from featviz.seeds import generator_for

from .grid import Cell

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
# Vectors at once in double precision: of ImageNet's, all would not fit into memory.
_ROWS = 16_384
# How an icon is looked at while it is drawn (`icon_views`).
ICON_SCALE, ICON_SHIFT, ICON_NOISE = (0.8, 1.25), 1 / 16, 0.2
# Where icons begin: waves over the map, alike within `REACH` cells, with `COARSE` values per side, and so strong.
WAVES, REACH, COARSE, STRENGTH = 512, 1.6, 6, 0.6


def whitener(vectors: Floats, *, ridge: float = 0.05) -> Tensor:
    """(c, c) inverse of the vectors' second moment, with `ridge` times its mean diagonal added before.

    Carter et al. 2019, "Activation Atlas": the uncentred second moment over all vectors, inverted. The ridge keeps
    channels that hardly vary from drowning the rest.
    """
    moment = torch.zeros(vectors.shape[1], vectors.shape[1], dtype=torch.float64)
    for start in range(0, len(vectors), _ROWS):
        raw = torch.from_numpy(np.array(vectors[start : start + _ROWS])).double()
        moment += raw.T @ raw
    moment /= len(vectors)
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
    steps: int = 100,
    attempts: int = 1,
    lr: float = 0.16,
    power: float = 4.0,
    seed: int = 0,
    precision: Precision = "float32",
    compiled: bool = False,
    keep: Keep = NOWHERE,
    engine: Engine = LOCAL,
    progress: Progress = silent,
) -> tuple[Bytes, Floats, Floats]:
    """The cells' icons (n, icon, icon, 3), their scores and their clean scores, (n,) each: cosines in [-1, 1].

    whitening: (c, c) from `whitener`. channels: of the layer, the c that means and whitening are of, None for all: the
    pictures then excite those alone, and the others count neither for the objective nor for the score. Scores are those
    of the icon as it is saved in the unaltered network, the mean over `robust_views` and in one pass. keep: takes each
    block of icons. engine: where they are drawn.
    """
    if not cells:
        return np.empty((0, icon, icon, 3), np.uint8), np.empty(0, np.float32), np.empty(0, np.float32)
    drawing = _IconDrawing(
        model, layer, torch.from_numpy(np.stack([cell.mean for cell in cells])),
        icon_starts(cells, seed, icon, model.preprocess.channels), whitening,
        None if channels is None else tuple(channels), icon, steps, attempts, lr, power, seed, precision, compiled,
    )  # fmt: skip
    jobs = blocks("icons", len(cells), 2 * chunk_for((icon, icon), model.device))
    report = shares(progress, "drawing icons", [len(block) for block in jobs.values()])
    made = [arrays for _, arrays in kept_map(engine, keep, drawing, jobs, report)]
    images, scores, clean = (np.concatenate([each[key] for each in made]) for key in ("images", "scores", "clean"))
    return images, scores, clean


@dataclass(frozen=True)
class _IconDrawing:
    """Draws blocks of icons: what `draw_icons` is given, for a worker anywhere."""

    model: Model
    layer: str
    means: Tensor
    starts: Tensor
    whitening: Tensor
    channels: tuple[int, ...] | None
    icon: int
    steps: int
    attempts: int
    lr: float
    power: float
    seed: int
    precision: Precision
    compiled: bool

    def __call__(self, place: Place) -> Work:
        model = self.model if place.device is None else self.model.to(place.device)
        means, whitening = self.means.to(model.device), self.whitening.to(model.device)
        wish = direction(self.layer, means, power=self.power, whitening=whitening)
        measure = cosine(self.layer, means @ whitening)
        if self.channels is not None:
            wish, measure = (within(each, self.layer, self.channels) for each in (wish, measure))
        trunk = Trunk(model, [self.layer], precision=self.precision, compiled=self.compiled, resizes=True)
        clean = Trunk(model, [self.layer], fold=False, resizes=True)

        # A worker elsewhere is given one job after the other: what was found by trying holds for all.
        limit = cache(partial(noise_limit, trunk, self.layer, (self.icon, self.icon), most=ICON_NOISE, at="center"))
        best_chunk = cache(partial(chunk_by_trying, trunk, (self.icon, self.icon)))

        def work(jobs: Sequence[Sequence[int]], report: Report) -> Iterator[Arrays]:
            chunk, noise = best_chunk(max(map(len, jobs), default=1)), limit()
            for number, block in enumerate(jobs):
                images = self._drawn(model, wish, trunk, block, chunk, noise, partial(report, number))
                robust, plain = (each(clean, measure, images, block).numpy() for each in (robust_score, score))
                yield {"images": as_rgb(images, model.preprocess.show), "scores": robust, "clean": plain}

        return work

    def _drawn(
        self,
        model: Model,
        wish: Objective,
        trunk: Trunk,
        block: Sequence[int],
        chunk: int,
        noise: float,
        told: Callable[[float], None],
    ) -> Tensor:
        return maximize(
            model,
            wish,
            # One key for all: that neighbours are drawn in the same views keeps them alike.
            keys=["icon"] * len(self.starts),
            start=self.starts,
            pictures=block,
            size=self.icon,
            steps=self.steps,
            lr=self.lr,
            canvas=calm(partial(Fourier, decay=DECAY)),
            transform=icon_views(self.icon, noise),
            attempts=self.attempts,
            seed=self.seed,
            chunk=chunk,
            trunk=trunk,
            progress=lambda stage, done, total: told(done / total),
        ).images


def icon_views(icon: int, noise: float = ICON_NOISE) -> Chain:
    """What an icon must survive: its middle counts, so it moves and changes its size less than other pictures."""
    return views(icon, scale=ICON_SCALE, shift=ICON_SHIFT, noise=noise, share=1)


def icon_starts(cells: Sequence[Cell], seed: int, icon: int, channels: int) -> Tensor:
    """(cells, channels, icon, icon) in [0, 1]: a smooth random field over the map, where each icon begins.

    Neighbouring cells hold like activations; where they begin alike, their icons stay alike. Every coarse pixel of a
    start is a sum of waves over the map, of random directions and lengths around `REACH`: a cell's start depends on
    its place and the seed alone, and cells that lie further apart share nothing.
    """
    generator = generator_for(seed, "starts of icons")
    frequencies = torch.randn(2, WAVES, generator=generator) / REACH
    phases = torch.rand(WAVES, generator=generator) * 2 * math.pi
    weights = torch.randn(WAVES, channels * COARSE**2, generator=generator) * math.sqrt(2 / WAVES)
    # In cells: grids of all sizes are equally smooth.
    places = torch.tensor([[cell.col, cell.row] for cell in cells], dtype=torch.float32)
    # One by one: a product of several rows may differ in its last bits.
    field = torch.stack([torch.cos(place @ frequencies + phases) @ weights for place in places])
    coarse = field.reshape(len(cells), channels, COARSE, COARSE)
    fine = torch.nn.functional.interpolate(coarse, (icon, icon), mode="bicubic", align_corners=False)
    return color.to_rgb(STRENGTH * fine).sigmoid() if channels == 3 else (STRENGTH * fine).sigmoid()


def as_rgb(images: Tensor, show: Sequence[int] = ()) -> Bytes:
    """8-bit (n, channels, h, w) -> (n, h, w, 3): grey is repeated, of other bands those of `show` are seen."""
    return visible(images, show).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()


def sheet(cells: Sequence[Cell], icons: Bytes, level: int) -> Bytes:
    """All icons of a level in one RGBA picture (level * icon, level * icon, 4); empty cells are transparent."""
    size = icons.shape[1]
    canvas = np.zeros((level * size, level * size, 4), np.uint8)
    for cell, picture in zip(cells, icons, strict=True):
        if cell.level == level:
            tile = canvas[cell.row * size : (cell.row + 1) * size, cell.col * size : (cell.col + 1) * size]
            tile[..., :3], tile[..., 3] = picture, 255
    return canvas
