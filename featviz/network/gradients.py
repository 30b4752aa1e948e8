"""Gradients on, whatever the caller has switched off; and a plain word where a network lets none through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..errors import UserError
from .forward import out_of_memory

# Functions that are flat wherever they have a slope.
_STEPS = ("round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "heaviside")


class GradientError(UserError, RuntimeError):
    """No gradient passes through a network. A `RuntimeError` too, as what torch raises there is."""


@contextmanager
def gradients_on() -> Iterator[None]:
    """Inside the `with`, or the function that this decorates, gradients are on and tensors fit for a backward pass."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def check_gradient(maps: Mapping[str, Tensor], name: str) -> None:
    """Raise `GradientError` where none of the maps, made of images that want a gradient, has one; name: the model's."""
    if maps and not any(each.requires_grad for each in maps.values()):
        raise no_gradient(name, next(iter(maps)))


@contextmanager
def flat_refused(name: str) -> Iterator[None]:
    """Inside the `with`, a forward pass that rounds what wants a gradient raises `GradientError`; name: the model's.

    For networks that pass a gradient of nothing, for which rounding is one reason and a dead unit another.
    """
    met = _Flat()
    with met:
        yield
    if met.names:
        raise GradientError(
            f"the gradient of {name} is nothing everywhere: its forward uses {' and '.join(sorted(met.names))}, whose "
            "results jump. Take that out of the forward, or name a layer before it."
        )


class _Flat(TorchFunctionMode):
    """Notes the functions of steps that are given what wants a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = args[0] if args else None
        if getattr(func, "__name__", "").rstrip("_") in _STEPS and isinstance(given, Tensor) and given.requires_grad:
            self.names.add(func.__name__.rstrip("_"))
        return func(*args, **(kwargs or {}))


def no_gradient(name: str, layer: str) -> GradientError:
    """The error for a layer that comes without a gradient out of the forward pass of the model called `name`."""
    return GradientError(
        f"no gradient passes through {name} to layer {layer!r}, and without one nothing can be drawn or explained: "
        "its forward switches gradients off on the way (torch.no_grad, torch.inference_mode, detach, .data, NumPy), or "
        "what it returns has no derivative (a comparison, a rounding to integers, argmax). Take that out of the "
        "forward; the caller's own torch.no_grad does not matter."
    )


@contextmanager
def backward_told(name: str) -> Iterator[None]:
    """Inside the `with`, a backward pass that fails becomes a `GradientError`; too little memory passes as it is."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        if isinstance(error, UserError) or out_of_memory(error):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise GradientError(f"the gradient cannot be followed back through {name}: {lines[0].rstrip('.')}.") from error
