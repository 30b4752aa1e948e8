"""One pass of a model over images, feeding any number of consumers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from featviz.errors import UserError
from featviz.models import Model, Preprocess
from featviz.progress import Progress, silent
from featviz.trunk import Trunk

from .decode import Box, cut, view_boxes
from .images import Images

# Views per forward pass, from benchmarks/batches.py.
CPU_BATCH, GPU_BATCH = 8, 128
# Images that a worker sends at once: they wait in shared memory, of which containers often have little.
_SENT_AT_ONCE = 16


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
class Skipped:
    """An image that could not be decoded, and why."""

    name: str
    reason: str


class NothingDecodedError(UserError):
    """Not one image could be decoded; `skipped` says why."""

    def __init__(self, message: str, skipped: Sequence[Skipped]) -> None:
        super().__init__(message)
        self.skipped = tuple(skipped)


@dataclass(frozen=True)
class Scanned:
    """What a scan went through: images decoded, views seen, images skipped."""

    images: int
    views: int
    skipped: tuple[Skipped, ...]


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

    Raises `UserError` when not one image could be decoded and for arguments out of range.
    """
    if boxes is not None:
        numbers = list(boxes)
    wanted = list(range(len(images))) if numbers is None else list(numbers)
    if views < 1 or (batch is not None and batch < 1) or any(not 0 <= number < len(images) for number in wanted):
        raise UserError(
            f"views and batch start at 1 and image numbers lie below {len(images)}; got views {views}, "
            f"batch {batch}, numbers {min(wanted, default=0)} to {max(wanted, default=0)}."
        )
    trunk = trunk or Trunk(model, layers)
    batch = batch or (CPU_BATCH if model.device.type == "cpu" else GPU_BATCH)
    cutter = _Cutter(images, wanted, model.preprocess, views, seed, boxes)
    skipped: list[Skipped] = []
    seen = 0
    for views_of_images in _batches(
        _loader(cutter, workers, min(-(-batch // views), _SENT_AT_ONCE)), batch, skipped, progress, len(wanted)
    ):
        with torch.inference_mode():
            pixels = views_of_images.pixels.to(trunk.device, non_blocking=True).float() / 255
            activations = {name: maps.float() for name, maps in trunk(pixels).items()}
            for consumer in consumers:
                consumer.update(views_of_images.with_activations(activations, pixels))
        seen += len(views_of_images.pixels)
    if wanted and len(skipped) == len(wanted):
        first = f" The first: {skipped[0].name}: {skipped[0].reason}." if skipped else ""
        message = f"not one of the {len(wanted)} images of {images.source!r} could be decoded.{first}"
        raise NothingDecodedError(message, skipped)
    return Scanned(len(wanted) - len(skipped), seen, tuple(skipped))


@dataclass(frozen=True)
class _Views:
    """Views of one image, or of several joined: pixels (n, c, h, w) uint8 and where each comes from."""

    pixels: Tensor
    index: Tensor
    view: Tensor
    label: Tensor
    box: Tensor

    def with_activations(self, activations: Mapping[str, Tensor], pixels: Tensor) -> Batch:
        return Batch(activations, self.index, self.view, self.label, self.box, pixels)

    def part(self, start: int, stop: int | None = None) -> _Views:
        fields = (self.pixels, self.index, self.view, self.label, self.box)
        return _Views(*(field[start:stop] for field in fields))

    def owned(self) -> _Views:
        """A copy in this process's own memory: each tensor from a worker holds a file open as long as it lives."""
        return _Views(self.pixels.clone(), self.index.clone(), self.view.clone(), self.label.clone(), self.box.clone())

    @classmethod
    def join(cls, parts: Sequence[_Views]) -> _Views:
        return cls(
            torch.cat([part.pixels for part in parts]),
            torch.cat([part.index for part in parts]),
            torch.cat([part.view for part in parts]),
            torch.cat([part.label for part in parts]),
            torch.cat([part.box for part in parts]),
        )


@dataclass(frozen=True)
class _Cutter(Dataset[Any]):
    """Item i: the views of image `numbers[i]`, decoded once, or why it was skipped."""

    images: Images
    numbers: list[int]
    how: Preprocess
    views: int
    seed: int
    boxes: Mapping[int, Sequence[Box]] | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, item: int) -> _Views | Skipped:
        number = self.numbers[item]
        name = self.images.names[number]
        try:
            image = self.images.open(number)
            boxes = self._boxes(image.size, number)
            pixels = torch.stack([cut(image, box, self.how) for box in boxes])
        except Exception as error:  # Pillow's decoders raise almost anything on a damaged file
            file = str(self.images.files[number]) if self.images.files else name
            return Skipped(name, f"{type(error).__name__}: {error}".replace(file, name)[:300])
        return _Views(
            pixels,
            torch.full((len(boxes),), number),
            torch.arange(len(boxes)),
            torch.full((len(boxes),), self.images.labels[number]),
            torch.tensor(boxes, dtype=torch.float32),
        )

    def _boxes(self, size: tuple[int, int], number: int) -> list[Box]:
        if self.boxes is not None:
            return list(self.boxes[number])
        return view_boxes(size, self.how, number, self.views, self.seed)


def _loader(cutter: _Cutter, workers: int | None, at_once: int) -> DataLoader[Any]:
    if workers is None:
        workers = max(1, min(8, (os.cpu_count() or 2) - 1))
    workers = 0 if len(cutter) < 8 else workers  # starting a process takes longer than a few images
    return DataLoader(
        cutter,
        batch_size=at_once,
        collate_fn=_collected,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # else the loader draws from the global one
    )


def _collected(items: Sequence[_Views | Skipped]) -> tuple[int, _Views | None, list[Skipped]]:
    """How many images, their views joined, the damaged: in the worker, as each tensor it sends costs a shared file."""
    views = [item for item in items if isinstance(item, _Views)]
    damaged = [item for item in items if isinstance(item, Skipped)]
    return len(items), _Views.join(views) if views else None, damaged


def _batches(
    loader: DataLoader[Any], size: int, skipped: list[Skipped], progress: Progress, total: int
) -> Iterator[_Views]:
    """Batches of `size` views (the last may be smaller); damaged images go to `skipped` instead."""
    waiting: list[_Views] = []
    done = 0
    for count, views, damaged in loader:
        done += count
        skipped.extend(damaged)
        if views is not None:
            waiting.append(views.owned())
        if sum(len(part.pixels) for part in waiting) >= size:
            joined = _Views.join(waiting) if len(waiting) > 1 else waiting[0]
            whole = len(joined.pixels) - len(joined.pixels) % size
            for start in range(0, whole, size):
                yield joined.part(start, start + size)
            waiting = [joined.part(whole)] if whole < len(joined.pixels) else []
        progress("reading images", done, total)
    if waiting:
        yield _Views.join(waiting)
