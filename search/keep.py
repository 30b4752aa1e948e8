"""A scan whose consumers are kept once it is done, so that a later run takes them up instead of scanning again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

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


def kept_scan(
    keep: Keep, name: str, consumers: Mapping[str, Consumer], run: Callable[[], Scanned]
) -> tuple[Skipped, ...]:
    """Fill the consumers by `run`, a scan that feeds them, or from what was kept; returns the images skipped.

    A scan that could decode no image is kept too: a shard of a data set may be damaged from end to end.
    """

    def compute() -> Arrays:
        try:
            skipped = run().skipped
        except NothingDecodedError as error:
            skipped = error.skipped
        arrays = {
            f"{own}|{key}": tensor.numpy() for own, each in consumers.items() for key, tensor in each.state().items()
        }
        arrays["skipped"] = np.array([[entry.name, entry.reason] for entry in skipped], np.str_).reshape(-1, 2)
        return arrays

    arrays = keep(name, compute)
    for own, consumer in consumers.items():
        state = {key.removeprefix(f"{own}|"): value for key, value in arrays.items() if key.startswith(f"{own}|")}
        consumer.load({key: torch.from_numpy(value) for key, value in state.items()})
    return tuple(Skipped(str(skipped), str(reason)) for skipped, reason in arrays["skipped"])
