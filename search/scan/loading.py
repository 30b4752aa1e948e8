"""Images -> batches of views of them, decoded by other processes ahead of the network."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from featviz.errors import UserError
from featviz.network.models import Preprocess
from featviz.run.engine import Report, cores, decoders_beside

from ..images.decode import Box, cut, in_unit, view_boxes, why
from ..images.image_set import readable
from ..images.images import Images

# Images that a worker sends at once: they wait in shared memory, of which containers often have little.
_SENT_AT_ONCE = 16


@dataclass(frozen=True)
class Skipped:
    """An image that could not be decoded, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Refused:
    """Why an image is of a kind that the network cannot be fed, which ends a scan."""

    reason: str


@dataclass(frozen=True)
class Views:
    """n views of one image or several: `pixels` (n, channels, h, w), uint8 of photographs and in [0, 1] of bands.

    The others are as in `Batch`.
    """

    pixels: Tensor
    index: Tensor
    view: Tensor
    label: Tensor
    box: Tensor

    def part(self, start: int, stop: int | None = None) -> Views:
        fields = (self.pixels, self.index, self.view, self.label, self.box)
        return Views(*(field[start:stop] for field in fields))

    def pin_memory(self) -> Views:
        """With the pixels where a GPU copies them from by itself; what the loader calls."""
        return replace(self, pixels=self.pixels.pin_memory())

    def owned(self, device: torch.device) -> Views:
        """A copy in this process's own memory, the pixels on the device.

        Each tensor from a worker holds a file open as long as it lives.
        """
        pixels = (
            self.pixels.clone() if device.type == "cpu" else self.pixels.to(device, non_blocking=device.type == "cuda")
        )
        return Views(pixels, self.index.clone(), self.view.clone(), self.label.clone(), self.box.clone())

    @classmethod
    def join(cls, parts: Sequence[Views]) -> Views:
        pixels = [part.pixels for part in parts]
        if len({part.dtype for part in pixels}) > 1:
            pixels = [in_unit(part) for part in pixels]
        return cls(
            torch.cat(pixels),
            torch.cat([part.index for part in parts]),
            torch.cat([part.view for part in parts]),
            torch.cat([part.label for part in parts]),
            torch.cat([part.box for part in parts]),
        )


# How many images, their views joined, the damaged, and why nothing goes on, if so.
_Sent = tuple[int, Views | None, list[Skipped], Refused | None]


def loaded(
    images: Images,
    parts: Sequence[Sequence[int]],
    how: Preprocess,
    *,
    views: int,
    seed: int,
    boxes: Mapping[int, Sequence[Box]] | None,
    batch: int,
    workers: int | None,
    device: torch.device,
    report: Report,
) -> Iterator[tuple[Iterator[Views], list[Skipped]]]:
    """For each part of the images its batches of `batch` views, and the list of skipped images, which they fill.

    A part's batches are to be gone through before the next part's. views, boxes, seed, workers: see `scan`. Raises
    `UserError` for an image of a kind that the network cannot be fed.
    """
    cutter = _Cutter(images, [number for part in parts for number in part], how, views, seed, boxes)
    at_once = min(-(-batch // views), _SENT_AT_ONCE)
    sent = _told_of_deaths(_loader(cutter, _sendings([len(part) for part in parts], at_once), workers, device))
    for number, part in enumerate(parts):
        skipped: list[Skipped] = []

        def told(done: int, number: int = number, total: int = len(part)) -> None:
            report(number, done / total)

        yield _batches(islice(sent, -(-len(part) // at_once)), batch, skipped, told, device), skipped


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

    def __getitem__(self, item: int) -> Views | Skipped | Refused:
        number = self.numbers[item]
        name = self.images.names[number]
        try:
            image = self.images.picture(number, self.how)
            boxes = self._boxes(image.size, number)
            pixels = torch.stack([cut(image, box, self.how) for box in boxes])
        except UserError as error:  # raised where the scan is: a process's own errors come with its traceback
            return Refused(str(error))
        except Exception as error:  # Pillow's decoders raise almost anything on a damaged file
            file = str(self.images.files[number]) if self.images.files else name
            return Skipped(readable(name), why(error).replace(file, readable(name))[:300])
        return Views(
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


def _collected(items: Sequence[Views | Skipped | Refused]) -> _Sent:
    """What is sent of some images, joined in the worker, as each tensor it sends costs a shared file."""
    views = [item for item in items if isinstance(item, Views)]
    damaged = [item for item in items if isinstance(item, Skipped)]
    refused = next((item for item in items if isinstance(item, Refused)), None)
    return len(items), Views.join(views) if views else None, damaged, refused


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


def _batches(
    sent: Iterable[_Sent],
    size: int,
    skipped: list[Skipped],
    told: Callable[[int], None],
    device: torch.device,
) -> Iterator[Views]:
    """Batches of `size` views (the last may be smaller); damaged images go to `skipped` instead."""
    waiting: list[Views] = []
    done = 0
    for count, views, damaged, refused in sent:
        if refused is not None:
            raise UserError(refused.reason)
        done += count
        skipped.extend(damaged)
        if views is not None:
            waiting.append(views.owned(device))
        if sum(len(part.pixels) for part in waiting) >= size:
            joined = Views.join(waiting) if len(waiting) > 1 else waiting[0]
            whole = len(joined.pixels) - len(joined.pixels) % size
            for start in range(0, whole, size):
                yield joined.part(start, start + size)
            waiting = [joined.part(whole)] if whole < len(joined.pixels) else []
        told(done)
    if waiting:
        yield Views.join(waiting)
