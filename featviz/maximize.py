"""The only optimisation loop: pictures that score as high as possible on an objective."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .canvas import CanvasMaker, canvas_maker
from .errors import UserError
from .models import Model
from .objectives import Activations, Objective
from .progress import Progress, silent
from .transforms import Affine, Transform
from .trunk import Trunk

# Pixels per micro-batch, from benchmarks/batches.py: more leave the processor's cache and cost more each, fewer are
# outweighed by what a pass costs whatever its size.
CPU_PIXELS, GPU_PIXELS = 2**17, 2**21
DEFAULT_TRANSFORM = Affine(shift=8, scale=(0.9, 1.1), degrees=10)


@dataclass(frozen=True)
class Pictures:
    """Pictures of n targets.

    `images`: (n, channels, h, w) uint8, as a PNG holds them; `scores`: (n,) the objective of those 8-bit images in one
    pass without transforms; `attempts`: (n,) which attempt was kept.
    """

    images: Tensor
    scores: Tensor
    attempts: Tensor


def maximize(
    model: Model,
    objective: Objective,
    *,
    count: int | None = None,
    keys: Sequence[str] | None = None,
    pictures: Sequence[int] | None = None,
    size: int | tuple[int, int] = 128,
    steps: int = 256,
    lr: float = 0.1,
    canvas: str | CanvasMaker = "fourier",
    transform: Transform = DEFAULT_TRANSFORM,
    attempts: int = 1,
    seed: int = 0,
    chunk: int | None = None,
    trunk: Trunk | None = None,
    progress: Progress = silent,
) -> Pictures:
    """Draw the pictures of an objective by gradient ascent.

    count: how many, where the objective does not say. keys: a name per picture of the objective; a picture's random
    draws depend on (seed, key, attempt) alone (default: its number). pictures: which of them to draw (default: all).
    size: pixels, one side or (height, width). lr: peak of the one-cycle schedule of Adam. attempts: keep the best of so
    many, by the score in a clean pass. chunk: pictures per micro-batch; every micro-batch has this size. trunk: an
    already prepared `Trunk` that reads the objective's layers.

    Raises `UserError` for settings out of range and for an objective that returns a wrong shape.
    """
    total = objective.count or count or (len(keys) if keys is not None else 1)
    names = [str(number) for number in range(total)] if keys is None else list(keys)
    wanted = list(range(total)) if pictures is None else list(pictures)
    if len(names) != total or any(not 0 <= number < total for number in wanted):
        raise UserError(f"{total} pictures take {total} keys and numbers below it; got {len(names)} keys, {wanted}.")
    height_width = (size, size) if isinstance(size, int) else size
    _check(height_width, steps, lr, attempts)
    trunk = trunk or Trunk(model, objective.layers)
    ascent = _Ascent(trunk, objective, canvas_maker(canvas), transform, height_width, steps, lr)
    chunk = chunk or chunk_for(height_width, trunk.device)

    kept: list[Pictures] = []
    for start in range(0, len(wanted), chunk):
        numbers = wanted[start : start + chunk]
        padded = numbers + numbers[-1:] * (chunk - len(numbers))
        tries = []
        for attempt in range(attempts):
            before = start * attempts + attempt * len(numbers)

            def report(step: int, before: int = before, now: int = len(numbers)) -> None:
                progress("drawing", before * steps + now * step, len(wanted) * attempts * steps)

            generators = [generator_for(seed, names[number], attempt) for number in padded]
            images = ascent.draw(padded, generators, report)[: len(numbers)]
            tries.append((images, score(trunk, objective, images, numbers)))
        kept.append(_best(tries))
    return _joined(kept, (trunk.preprocess.channels, *height_width))


def chunk_for(size: tuple[int, int], device: torch.device) -> int:
    """Pictures of `size` per micro-batch on a device, a power of two: 8 of 128 x 128, 16 of 96 x 96 on a CPU."""
    pixels = CPU_PIXELS if device.type == "cpu" else GPU_PIXELS
    return int(2 ** min(max(round(math.log2(pixels / (size[0] * size[1]))), 2), 8))


def generator_for(seed: int, key: str, attempt: int = 0) -> torch.Generator:
    """A CPU generator whose draws depend on its three arguments alone."""
    digest = hashlib.sha256(f"{seed}/{attempt}/{key}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def score(trunk: Trunk, objective: Objective, images: Tensor, numbers: Sequence[int], *, chunk: int = 8) -> Tensor:
    """The objective (n,) of 8-bit images (n, channels, h, w) in one pass without transforms.

    numbers: which picture of the objective each image is.
    """
    scores = [torch.empty(0)]
    with torch.inference_mode():
        for start in range(0, len(images), chunk):
            part = images[start : start + chunk].to(trunk.device).float() / 255
            index = torch.tensor(list(numbers[start : start + chunk]), device=trunk.device)
            scores.append(objective(Activations(trunk(part), part, index)).float().cpu())
    return torch.cat(scores)


@dataclass(frozen=True)
class _Ascent:
    """The loop itself, for one micro-batch at a time."""

    trunk: Trunk
    objective: Objective
    canvas: CanvasMaker
    transform: Transform
    size: tuple[int, int]
    steps: int
    lr: float

    def draw(self, numbers: list[int], generators: list[torch.Generator], report: Callable[[int], None]) -> Tensor:
        """8-bit images (n, channels, h, w) of the pictures `numbers`, one generator each."""
        device = self.trunk.device
        canvas = self.canvas(generators, self.trunk.preprocess.channels, self.size, device)
        index = torch.tensor(numbers, device=device)
        optimizer = torch.optim.Adam(canvas.parameters, lr=self.lr, fused=True)
        for step in range(self.steps):
            for group in optimizer.param_groups:
                group["lr"] = self.lr * one_cycle((step + 0.5) / self.steps)
            views = self.transform(canvas.images(), generators)
            scores = self.objective(Activations(self.trunk(views), views, index))
            optimizer.zero_grad()
            (-scores.sum()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            report(step + 1)
        with torch.no_grad():
            return (canvas.images() * 255).round().clamp(0, 255).to(torch.uint8).cpu()


def one_cycle(progress: float) -> float:
    """Share of the peak learning rate at `progress` in [0, 1]: up in the first tenth, then down to 0 along a cosine."""
    warm_up = 0.1
    if progress < warm_up:
        return progress / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * (progress - warm_up) / (1 - warm_up))


def _best(tries: list[tuple[Tensor, Tensor]]) -> Pictures:
    images, scores = (torch.stack(parts) for parts in zip(*tries, strict=True))
    attempts = scores.nan_to_num(nan=-torch.inf).argmax(0)
    each = torch.arange(len(attempts))
    return Pictures(images[attempts, each], scores[attempts, each], attempts)


def _joined(parts: list[Pictures], shape: tuple[int, int, int]) -> Pictures:
    if not parts:
        return Pictures(torch.empty(0, *shape, dtype=torch.uint8), torch.empty(0), torch.empty(0, dtype=torch.long))
    return Pictures(
        torch.cat([part.images for part in parts]),
        torch.cat([part.scores for part in parts]),
        torch.cat([part.attempts for part in parts]),
    )


def _check(size: tuple[int, int], steps: int, lr: float, attempts: int) -> None:
    if min(size) < 8:
        raise UserError(f"a picture takes at least 8 x 8 pixels; got {size[0]} x {size[1]}.")
    if steps < 1 or attempts < 1:
        raise UserError(f"steps and attempts start at 1; got {steps} and {attempts}.")
    if not 0 < lr < 10:
        raise UserError(f"the learning rate lies between 0 and 10; got {lr}.")
