"""What went wrong inside a network's own forward pass, told by the layer in which it did."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from .layers import AllRead

# Of what a layer was given, so many arguments are told.
_TOLD = 4
_CALLS = ("_call_impl", "_wrapped_call_impl")
_SIZE = "images of another size, perhaps: `size=` says which size the network is given"
_HINTS: tuple[tuple[str, str], ...] = (
    (r"to have \d+ channels?, but got|expected input.* to have \d+ channels",
     "the network takes another number of channels: `mean=` and `std=` hold one number for each"),
    (r"kernel size can't be greater|output size is too small|padding size should be less|should be greater than zero"
     r"|expected more than 1 spatial|too small|invalid for input of size 0|non-zero size|numel\(\) == 0",
     "the images are too small for the network: give a larger `size=`"),
    (r"can't call numpy\(\) on tensor that requires grad",
     "this forward leaves torch, so that no gradient passes through it"),
    (r"same dtype|same type|dtype|scalar type|expected .* but found (half|float|double|bfloat16)",
     "the network's parts have several dtypes: make it one with network.float()"),
    (r"same device|on device|device type", "the network's parts, or tensors that it keeps, are on several devices"),
    (r"missing \d+ required|takes \d+ positional|unexpected keyword|got multiple values|required keyword",
     "the network is given one tensor of images and nothing else: wrap it in a module whose forward takes that"),
    (r"has no attribute|must be tensor|not subscriptable|invalid combination of arguments|received an invalid"
     r"|not callable|nonetype|unsupported operand|indices must be",
     "the layer got something else than it takes, such as a tuple or a dict in place of a tensor: wrap the network in "
     "a module whose forward unpacks it"),
    (r"shapes cannot be multiplied|must match the size|is invalid for input of size|doesn't match|not divisible"
     r"|sizes of tensors must match|size mismatch|expand|input height|input image|image size|wrong .*size"
     r"|normalized_shape|shape", _SIZE),
    (r"not implemented for", "the device cannot run this in the network's dtype: make it network.float()"),
)  # fmt: skip


class ForwardError(UserError, RuntimeError):
    """A network's own forward pass has failed. A `RuntimeError` too, as what torch raises there mostly is."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device has no more memory, in the words of CPU, CUDA or MPS."""
    text = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        "out of memory" in text or "allocate memory" in text
    )


@contextmanager
def told(name: str) -> Iterator[None]:
    """Inside the `with`, an error that arises in a module's forward becomes a `ForwardError` that says in which layer.

    name: the model's. What is no error of the network's, such as a `UserError` or too little memory, passes as it is.
    Nothing is watched: the layer and what it was given are read from the traceback.
    """
    try:
        yield
    except (UserError, AllRead):
        raise
    except Exception as error:  # a forward can raise anything
        if out_of_memory(error):
            raise
        said = _said(name, error)
        if said is None:
            raise
        raise ForwardError(said) from error


def _said(name: str, error: Exception) -> str | None:
    """The error in words; None for one that arose in no module."""
    frames = [frame for frame in _frames(error.__traceback__) if isinstance(frame.f_locals.get("self"), nn.Module)]
    if not any(frame.f_code.co_name in (*_CALLS, "forward") for frame in frames):
        return None
    network = frames[0].f_locals["self"]
    names = {id(module): path for path, module in network.named_modules()}
    path = next((names[id(f.f_locals["self"])] for f in reversed(frames) if id(f.f_locals["self"]) in names), "")
    layer = network.get_submodule(path)
    reason = _first_line(error)
    kind = type(layer).__name__
    where = f"in layer {path!r} ({kind})" if path else f"in the forward of the network itself ({kind})"
    given = _given(frames, layer)
    seen = "" if layer is network else f", given {_given(frames, network)},"
    what = reason if isinstance(error, RuntimeError) else f"{type(error).__name__}: {reason}"
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, reason.lower())), "")
    hint = hint or "the network can be tried by itself: network.eval()(torch.rand(1, channels, height, width))"
    return f"{name}{seen} fails {where}, which was given {given}: {what.rstrip('.')}. Hint: {hint}."


def _frames(traceback: TracebackType | None) -> Iterator[FrameType]:
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _given(frames: list[FrameType], module: nn.Module) -> str:
    """What a module was called with, from the frame of its call, or of its forward where that was called directly."""
    own = [frame for frame in frames if frame.f_locals["self"] is module]
    for frame in own:
        if frame.f_code.co_name in _CALLS and "args" in frame.f_locals:
            return _in_words([*frame.f_locals["args"], *frame.f_locals.get("kwargs", {}).values()])
    if not own:
        return "nothing known"
    code = own[-1].f_code
    return _in_words([own[-1].f_locals.get(each) for each in code.co_varnames[1 : code.co_argcount]])


def _in_words(values: list[Any]) -> str:
    parts = [_word(value) for value in values[:_TOLD]]
    return (", ".join(parts) or "nothing") + (", ..." if len(values) > _TOLD else "")


def _word(value: Any) -> str:
    if isinstance(value, Tensor):
        shape = str(tuple(value.shape))
        return shape if value.dtype == torch.float32 else f"{shape} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} of {len(value)} ({_in_words(list(value))})"
    if isinstance(value, Mapping):
        return f"{type(value).__name__} of {', '.join(map(repr, list(value)[:_TOLD]))}"
    return type(value).__name__ if value is not None else "None"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
