"""The states of consumers as arrays, as folders and engines carry them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from featviz.run.keep import Arrays

from .loading import Skipped
from .scan import Consumer


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
