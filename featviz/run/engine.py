"""Where work is done that falls into jobs: in this process, or by the workers of a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import torch

from ..errors import UserError
from ..progress import Progress
from .keep import Arrays, Keep

# How far a job is: (its place among the jobs, the share of it that is done).
Report = Callable[[int, float], None]
# Jobs -> their results, in the order of the jobs.
Work = Callable[[Sequence[Any], Report], Iterator[Arrays]]


@dataclass(frozen=True)
class Place:
    """Where a worker works: its `device`, None for the model's own; `decoders`: processes that decode beside it."""

    device: str | None = None
    decoders: int | None = None


# What a worker has ready for all of its jobs: prepared networks and the like.
Prepare = Callable[[Place], Work]


class Engine(Protocol):
    """Does jobs; a job's result depends on the job and the number of threads alone, not on the engine."""

    def map(self, prepare: Prepare, jobs: Sequence[Any], report: Report) -> Iterator[Arrays]:
        """The results of the jobs in their order; `prepare(place)(jobs, report)` does some of them on a worker."""
        ...


def check_threads(threads: int) -> None:
    """Raise `UserError` for a number of threads that no worker can have."""
    if not 0 <= threads <= 1024:
        raise UserError(f"--threads starts at 1, or is 0 for as many as there are cores; got {threads}.")


@dataclass(frozen=True)
class Local:
    """The engine that works in this process.

    threads: of the network on a CPU, 0 for torch's own choice. A sum's last bits depend on how many share it, so that
    the same bytes take the same number.
    """

    threads: int = 0

    def __post_init__(self) -> None:
        check_threads(self.threads)

    def map(self, prepare: Prepare, jobs: Sequence[Any], report: Report) -> Iterator[Arrays]:
        if not jobs:
            return
        with torch_threads(self.threads or torch.get_num_threads()):
            yield from prepare(Place())(jobs, report)


LOCAL: Engine = Local()


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Have torch work with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def same_threads() -> Iterator[None]:
    """Leave torch its threads: libraries that set OpenMP's, as numba in UMAP does, set torch's with them."""
    with torch_threads(torch.get_num_threads()):
        yield


def decoders_beside(threads: int) -> int:
    """How many processes decode images beside a network that has so many threads."""
    return min(8, threads - 1)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def kept_map(
    engine: Engine, keep: Keep, prepare: Prepare, jobs: Mapping[str, Any], report: Report
) -> Iterator[tuple[str, Arrays]]:
    """Each job's name and result, in order: from `keep` where an earlier run left it, else by the engine, and kept."""
    places = [place for place, name in enumerate(jobs) if not keep.has(name)]
    names = list(jobs)
    made = engine.map(
        prepare, [jobs[names[place]] for place in places], lambda number, share: report(places[number], share)
    )
    if places:
        report(places[0], 0.0)  # what comes next may take a while to begin
    for place, name in enumerate(names):
        arrays = keep.arrays(name, lambda: next(made))
        if places and place >= places[0]:
            report(place, 1.0)
        yield name, arrays


def shares(progress: Progress, stage: str, sizes: Sequence[int]) -> Report:
    """A `Report` that tells a `Progress` about jobs of these sizes, which are done in their order."""
    ends = list(accumulate(sizes, initial=0))

    def report(number: int, share: float) -> None:
        progress(stage, ends[number] + int(share * sizes[number]), ends[-1])

    return report


def blocks(name: str, count: int, size: int) -> dict[str, range]:
    """Jobs of up to `size` of so many things each, by names under which they are kept."""
    found = [range(start, min(start + size, count)) for start in range(0, count, size)]
    return {f"{name}-{block.start:06d}-{block.stop:06d}": block for block in found}
