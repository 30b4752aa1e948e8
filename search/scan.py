"""One pass of a model over images, feeding any number of consumers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, islice
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from featviz.batch_size import best_batch, in_halves
from featviz.engine import Report, cores, decoders_beside, shares
from featviz.errors import UserError
from featviz.models import Model, Preprocess
from featviz.progress import Progress, silent
from featviz.trunk import Trunk

from .decode import Box, cut, view_boxes, why
from .image_set import readable
from .images import Images

# Views per forward pass: on a CPU from benchmarks/batches.py, on a GPU where they cannot be found by trying.
CPU_BATCH, GPU_BATCH = 8, 128
# More than a shard of the scan would never be full.
MOST_AT_ONCE = 256
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

    Raises `UserError` when not one image could be decoded and for arguments out of range.
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
    at_once = min(-(-batch // views), _SENT_AT_ONCE)
    cutter = _Cutter(images, wanted, model.preprocess, views, seed, boxes)
    sent = _told_of_deaths(_loader(cutter, _sendings([len(part) for part in parts], at_once), workers, trunk.device))
    for number, part in enumerate(parts):
        consumers, skipped, seen = begin(), list[Skipped](), 0

        def told(done: int, number: int = number, total: int = len(part)) -> None:
            report(number, done / total)

        own = islice(sent, -(-len(part) // at_once))
        for views_of_images in _batches(own, batch, skipped, told, trunk.device):
            with torch.inference_mode():
                pixels = views_of_images.pixels.float() / 255
                activations = in_halves(partial(_activations, trunk), pixels)
                for consumer in consumers:
                    consumer.update(views_of_images.with_activations(activations, pixels))
            seen += len(views_of_images.pixels)
        yield Scanned(len(part) - len(skipped), seen, tuple(skipped))


def _activations(trunk: Trunk, pixels: Tensor) -> dict[str, Tensor]:
    return {name: maps.float() for name, maps in trunk(pixels).items()}


def _told_of_deaths(sent: Iterable[_Sent]) -> Iterator[_Sent]:
    """The same, with an error of ours where a process that decodes images has died."""
    try:
        yield from sent
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            "a process that decodes images was killed, as happens where memory or shared memory (/dev/shm) is short: "
            "take fewer --workers, or 0 to decode without others. The same command goes on."
        ) from error


def batch_for(trunk: Trunk) -> int:
    """Images that a network is given at once, where nobody says."""
    if trunk.device.type == "cpu":
        return CPU_BATCH
    # Each size that is tried would be compiled.
    return (
        GPU_BATCH if trunk.compiled or not trunk.layers else best_batch(trunk, trunk.preprocess.size, most=MOST_AT_ONCE)
    )


def nothing_decoded(images: Images, skipped: Sequence[Skipped]) -> NothingDecodedError:
    """The error that says so, with the first image's reason."""
    first = f" The first: {skipped[0].name}: {skipped[0].reason}." if skipped else ""
    message = f"not one of the {len(skipped)} images of {images.source!r} could be decoded.{first}"
    return NothingDecodedError(message, skipped)


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

    def pin_memory(self) -> _Views:
        """With the pixels where a GPU copies them from by itself; what the loader calls."""
        return replace(self, pixels=self.pixels.pin_memory())

    def owned(self, device: torch.device) -> _Views:
        """A copy in this process's own memory, the pixels on the device.

        Each tensor from a worker holds a file open as long as it lives.
        """
        pixels = (
            self.pixels.clone() if device.type == "cpu" else self.pixels.to(device, non_blocking=device.type == "cuda")
        )
        return _Views(pixels, self.index.clone(), self.view.clone(), self.label.clone(), self.box.clone())

    @classmethod
    def join(cls, parts: Sequence[_Views]) -> _Views:
        return cls(
            torch.cat([part.pixels for part in parts]),
            torch.cat([part.index for part in parts]),
            torch.cat([part.view for part in parts]),
            torch.cat([part.label for part in parts]),
            torch.cat([part.box for part in parts]),
        )


# How many images, their views joined, the damaged.
_Sent = tuple[int, _Views | None, list[Skipped]]


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
            return Skipped(readable(name), why(error).replace(file, readable(name))[:300])
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


def _sendings(sizes: Sequence[int], at_once: int) -> list[list[int]]:
    """Which items are sent together: up to `at_once`, none of two parts."""
    starts = list(accumulate(sizes, initial=0))
    return [
        list(range(first, min(first + at_once, start + size)))
        for start, size in zip(starts, sizes)
        for first in range(start, start + size, at_once)
    ]


def _loader(cutter: _Cutter, sendings: list[list[int]], workers: int | None, device: torch.device) -> Iterable[_Sent]:
    if workers is None:
        workers = max(1, decoders_beside(cores()))
    workers = 0 if len(cutter) < 8 else workers  # starting a process takes longer than a few images
    return DataLoader(
        cutter,
        batch_sampler=sendings,
        collate_fn=_collected,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # else the loader draws from the global one
        worker_init_fn=_leave_ending_to_the_parent,
    )


def _leave_ending_to_the_parent(worker: int) -> None:
    # A cluster sends SIGTERM to all; a decoder that dies of it first would pass for an accident.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _collected(items: Sequence[_Views | Skipped]) -> tuple[int, _Views | None, list[Skipped]]:
    """How many images, their views joined, the damaged: in the worker, as each tensor it sends costs a shared file."""
    views = [item for item in items if isinstance(item, _Views)]
    damaged = [item for item in items if isinstance(item, Skipped)]
    return len(items), _Views.join(views) if views else None, damaged


def _batches(
    sent: Iterable[_Sent],
    size: int,
    skipped: list[Skipped],
    told: Callable[[int], None],
    device: torch.device,
) -> Iterator[_Views]:
    """Batches of `size` views (the last may be smaller); damaged images go to `skipped` instead."""
    waiting: list[_Views] = []
    done = 0
    for count, views, damaged in sent:
        done += count
        skipped.extend(damaged)
        if views is not None:
            waiting.append(views.owned(device))
        if sum(len(part.pixels) for part in waiting) >= size:
            joined = _Views.join(waiting) if len(waiting) > 1 else waiting[0]
            whole = len(joined.pixels) - len(joined.pixels) % size
            for start in range(0, whole, size):
                yield joined.part(start, start + size)
            waiting = [joined.part(whole)] if whole < len(joined.pixels) else []
        told(done)
    if waiting:
        yield _Views.join(waiting)
