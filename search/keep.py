"""A scan whose consumers are kept as it goes, so that a later run takes them up instead of scanning again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from .scan import Consumer, NothingDecodedError, Scanned, Skipped

Arrays = dict[str, NDArray[Any]]
# How a run keeps what it made: (name, compute) -> arrays, computed or found. The default keeps nothing.
Keep = Callable[[str, Callable[[], Arrays]], Arrays]


def keep_nothing(name: str, compute: Callable[[], Arrays]) -> Arrays:
    """The `Keep` of a run without a folder."""
    return compute()


class Checkpoints(Protocol):
    """Where work that goes step by step keeps how far it is: an `OutputFolder`, or nowhere."""

    def latest(self, name: str) -> tuple[int, Arrays] | None: ...

    def advance(self, name: str, step: int, arrays: Arrays) -> None: ...


class NoCheckpoints:
    """The `Checkpoints` of a run without a folder."""

    def latest(self, name: str) -> tuple[int, Arrays] | None:
        return None

    def advance(self, name: str, step: int, arrays: Arrays) -> None: ...


def kept_scan(
    keep: Keep, name: str, consumers: Mapping[str, Consumer], run: Callable[[], Scanned]
) -> tuple[Skipped, ...]:
    """Fill the consumers by `run`, a scan that feeds them, or from what was kept; returns the images skipped."""
    arrays = keep(name, lambda: pack(consumers, skipped_by(run)))
    return unpack(arrays, consumers)


def stepwise_scan(
    checkpoints: Checkpoints,
    name: str,
    consumers: Mapping[str, Consumer],
    run: Callable[[range], Scanned],
    *,
    numbers: range,
    step: int,
) -> tuple[Skipped, ...]:
    """Fill the consumers by `run`, `step` of the image numbers at a time; returns the images skipped.

    Goes on where an earlier run was stopped. What is kept is all that was found, whose size does not grow with the
    images.
    """
    found = checkpoints.latest(name)
    start, skipped = (found[0], list(unpack(found[1], consumers))) if found else (numbers.start, [])
    for first in range(start, numbers.stop, step):
        own = range(first, min(first + step, numbers.stop))
        skipped += skipped_by(partial(run, own))
        checkpoints.advance(name, own.stop, pack(consumers, skipped))
    return tuple(skipped)


def skipped_by(run: Callable[[], Scanned]) -> tuple[Skipped, ...]:
    """The images that a scan skipped, be it all of them: part of a data set may be damaged from end to end."""
    try:
        return run().skipped
    except NothingDecodedError as error:
        return error.skipped


def pack(consumers: Mapping[str, Consumer], skipped: Sequence[Skipped]) -> Arrays:
    """The states of consumers by name, and the images skipped, as arrays."""
    arrays = {f"{own}|{key}": tensor.numpy() for own, each in consumers.items() for key, tensor in each.state().items()}
    arrays["skipped"] = np.array([[entry.name, entry.reason] for entry in skipped], np.str_).reshape(-1, 2)
    return arrays


def unpack(arrays: Arrays, consumers: Mapping[str, Consumer]) -> tuple[Skipped, ...]:
    """Fill the consumers from what `pack` made; returns the images skipped."""
    for own, consumer in consumers.items():
        state = {key.removeprefix(f"{own}|"): value for key, value in arrays.items() if key.startswith(f"{own}|")}
        consumer.load({key: torch.from_numpy(value) for key, value in state.items()})
    return tuple(Skipped(str(skipped), str(reason)) for skipped, reason in arrays["skipped"])
