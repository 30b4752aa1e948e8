"""How many images go through a network at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from .trunk import Trunk, out_of_memory

# Pixels per micro-batch, from benchmarks/batches.py: more leave the processor's cache and cost more each, fewer are
# outweighed by what a pass costs whatever its size.
CPU_PIXELS, GPU_PIXELS = 2**17, 2**21
# A doubled batch has to save this share of the time per image to be worth its memory.
_GAIN = 0.1
_REPEATS = 3


def chunk_for(size: tuple[int, int], device: torch.device) -> int:
    """Pictures of `size` per micro-batch on a device, a power of two: 8 of 128 x 128, 16 of 96 x 96 on a CPU."""
    pixels = CPU_PIXELS if device.type == "cpu" else GPU_PIXELS
    return int(2 ** min(max(round(math.log2(pixels / (size[0] * size[1]))), 2), 8))


def chunk_by_trying(trunk: Trunk, size: tuple[int, int], count: int) -> int:
    """As `chunk_for`, on a GPU what it turns out to be best at, of so many pictures in all."""
    seen = trunk.input_size(size)
    if trunk.device.type == "cpu" or trunk.compiled:  # each size that is tried would have to be compiled
        return chunk_for(seen, trunk.device)
    return best_batch(trunk, seen, backward=True, first=min(16, count), most=count)


def whole_groups(chunk: int, group: int) -> int:
    """The largest number of pictures up to `chunk` that are whole groups, at least one."""
    return max(chunk // group, 1) * group


def best_batch(
    trunk: Trunk, size: tuple[int, int], *, backward: bool = False, first: int = 16, most: int = 1024
) -> int:
    """The number of images of `size`, `first` or twice it and so on, beyond which each takes as long as before.

    Tries ever larger batches, up to `most`, of grey images, with the backward pass to the images where that is wanted,
    until one gains less than a tenth or the device has no memory for it.
    """
    try:
        best, before = first, _seconds(trunk, size, first, backward)
    except RuntimeError as error:
        if not out_of_memory(error) or first == 1:
            raise
        _forget(trunk.device)
        return best_batch(trunk, size, backward=backward, first=first // 2, most=first // 2)
    while 2 * best <= most:
        try:
            now = _seconds(trunk, size, 2 * best, backward)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            _forget(trunk.device)
            break
        if now > (1 - _GAIN) * before:
            break
        best, before = 2 * best, now
    _forget(trunk.device)
    return best


def in_halves(work: Callable[[torch.Tensor], dict[str, torch.Tensor]], images: torch.Tensor) -> dict[str, torch.Tensor]:
    """What work makes of images, of one half after the other where the device has no memory for all at once."""
    try:
        return work(images)
    except RuntimeError as error:
        if not out_of_memory(error) or len(images) == 1:
            raise
    _forget(images.device)
    halves = [in_halves(work, half) for half in images.tensor_split(2)]
    return {name: torch.cat([half[name] for half in halves]) for name in halves[0]}


def _seconds(trunk: Trunk, size: tuple[int, int], count: int, backward: bool) -> float:
    """Per image, the fastest of some passes behind a first one, which finds the device's kernels."""
    images = torch.full((count, trunk.preprocess.channels, *size), 0.5, device=trunk.device, requires_grad=backward)
    work = _forward_and_backward if backward else _forward
    work(trunk, images)
    return min(_timed(work, trunk, images) for _ in range(_REPEATS)) / count


def _timed(work: Callable[[Trunk, torch.Tensor], None], trunk: Trunk, images: torch.Tensor) -> float:
    _wait(trunk.device)
    start = time.perf_counter()
    work(trunk, images)
    _wait(trunk.device)
    return time.perf_counter() - start


def _forward(trunk: Trunk, images: torch.Tensor) -> None:
    with torch.inference_mode():
        trunk(images)


def _forward_and_backward(trunk: Trunk, images: torch.Tensor) -> None:
    images.grad = None
    sum(maps.sum() for maps in trunk(images).values()).backward()  # type: ignore[union-attr]


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _forget(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
