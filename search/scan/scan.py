"""One pass of a model over images, feeding any number of consumers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from featviz.errors import UserError
from featviz.network.batch_size import best_batch, in_halves
from featviz.network.models import Model
from featviz.network.trunk import Trunk
from featviz.progress import Progress, silent
from featviz.run.engine import Report, shares

from ..images.decode import Box, in_unit
from ..images.images import Images
from .loading import Skipped, loaded

# Views per forward pass: on a CPU from benchmarks/batches.py, on a GPU where they cannot be found by trying.
CPU_BATCH, GPU_BATCH = 8, 128
# More than a shard of the scan would never be full.
MOST_AT_ONCE = 256


@dataclass(frozen=True)
class Batch:
    """What a consumer sees of n views.

    `activations`: layer -> (n, c, h, w) float32; `index`: (n,) image number; `view`: (n,) number of the view of that
    image; `label`: (n,) class index, -1 where unknown; `box`: (n, 4) the view's left, top, right, bottom in the pixels
    of the upright original; `pixels`: (n, channels, h, w) in [0, 1], the views themselves.
    """

    activations: Mapping[str, Tensor]
    index: Tensor
    view: Tensor
    label: Tensor
    box: Tensor
    pixels: Tensor


class Consumer(Protocol):
    """Gathers what it needs from a scan. Merging is associative and order-independent, so shards can be joined."""

    def update(self, batch: Batch) -> None: ...

    def merge(self, other: Any) -> None: ...

    def state(self) -> dict[str, Tensor]: ...

    def load(self, state: Mapping[str, Tensor]) -> None: ...


@dataclass(frozen=True)
class Scanned:
    """What a scan went through: images decoded, views seen, images skipped."""

    images: int
    views: int
    skipped: tuple[Skipped, ...]

    def __add__(self, other: Scanned) -> Scanned:
        return Scanned(self.images + other.images, self.views + other.views, self.skipped + other.skipped)


def scan(
    model: Model,
    images: Images,
    layers: Sequence[str],
    consumers: Sequence[Consumer],
    *,
    views: int = 1,
    numbers: Sequence[int] | None = None,
    boxes: Mapping[int, Sequence[Box]] | None = None,
    seed: int = 0,
    batch: int | None = None,
    workers: int | None = None,
    trunk: Trunk | None = None,
    progress: Progress = silent,
) -> Scanned:
    """Run the model once over each image and hand the layers' activations to every consumer.

    views: 1 shows each image by its central crop; more add seeded random crops, which depend on (seed, image number,
    view number) alone. numbers: which images (default: all), in this order. boxes: instead of both, which images and
    which parts of each, in pixels of the upright original. workers: processes that decode beside the network; 0 decodes
    in this one.

    Raises `UserError` when not one image could be decoded, for an image of a kind that the network cannot be fed (a
    photograph for one of seven bands) and for arguments out of range.
    """
    if boxes is not None:
        numbers = list(boxes)
    wanted = range(len(images)) if numbers is None else numbers
    (scanned,) = scan_parts(
        model, images, layers, lambda: consumers, [wanted], views=views, boxes=boxes, seed=seed, batch=batch,
        workers=workers, trunk=trunk, report=shares(progress, "reading images", [len(wanted)]),
    )  # fmt: skip
    if wanted and not scanned.images:
        raise nothing_decoded(images, scanned.skipped)
    return scanned


def scan_parts(
    model: Model,
    images: Images,
    layers: Sequence[str],
    begin: Callable[[], Sequence[Consumer]],
    parts: Sequence[Sequence[int]],
    *,
    views: int = 1,
    boxes: Mapping[int, Sequence[Box]] | None = None,
    seed: int = 0,
    batch: int | None = None,
    workers: int | None = None,
    trunk: Trunk | None = None,
    report: Report = lambda number, share: None,
) -> Iterator[Scanned]:
    """Scan parts of the images one after the other, each into consumers of its own: `scan` in pieces.

    begin: makes the consumers of a part, before its first image. parts: image numbers. No batch holds images of two
    parts, so that what a part gives does not depend on the others. Images are read ahead across parts.

    Raises `UserError` for arguments out of range; a part of which nothing can be decoded is no error.
    """
    wanted = [number for part in parts for number in part]
    if views < 1 or (batch is not None and batch < 1) or any(not 0 <= number < len(images) for number in wanted):
        raise UserError(
            f"views and batch start at 1 and image numbers lie below {len(images)}; got views {views}, "
            f"batch {batch}, numbers {min(wanted, default=0)} to {max(wanted, default=0)}."
        )
    trunk = trunk or Trunk(model, layers)
    batch = batch or batch_for(trunk)
    read = loaded(
        images, parts, model.preprocess, views=views, seed=seed, boxes=boxes, batch=batch, workers=workers,
        device=trunk.device, report=report,
    )  # fmt: skip
    for part, (batches, skipped) in zip(parts, read, strict=True):
        consumers, seen = begin(), 0
        for each in batches:
            with torch.inference_mode():
                pixels = in_unit(each.pixels)
                activations = in_halves(partial(_activations, trunk), pixels)
                whole = Batch(activations, each.index, each.view, each.label, each.box, pixels)
                for consumer in consumers:
                    consumer.update(whole)
            seen += len(pixels)
        yield Scanned(len(part) - len(skipped), seen, tuple(skipped))


def _activations(trunk: Trunk, pixels: Tensor) -> dict[str, Tensor]:
    return {name: maps.float() for name, maps in trunk(pixels).items()}


def batch_for(trunk: Trunk) -> int:
    """Images that a network is given at once, where nobody says."""
    if trunk.device.type == "cpu":
        return CPU_BATCH
    # Each size that is tried would be compiled.
    return (
        GPU_BATCH if trunk.compiled or not trunk.layers else best_batch(trunk, trunk.preprocess.size, most=MOST_AT_ONCE)
    )


def nothing_decoded(images: Images, skipped: Sequence[Skipped]) -> UserError:
    """The error that says so, with the first image's reason."""
    first = f" The first: {skipped[0].name}: {skipped[0].reason}." if skipped else ""
    return UserError(f"not one of the {len(skipped)} images of {images.source!r} could be decoded.{first}")
