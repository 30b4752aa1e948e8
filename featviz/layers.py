"""Find a layer by dotted name or glob, stop the forward pass there, and read its output as (n, c, h, w)."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from .errors import UserError, unknown


def layer_names(network: nn.Module) -> list[str]:
    """Dotted names of every module below the root, in the order of definition."""
    return [name for name, _ in network.named_modules() if name]


# The layer name of what the whole network returns: for a classifier, its class logits.
OUTPUT = "output"


def split_token(name: str) -> tuple[str, str]:
    """A layer's name and the class or register token that is read of it, `cls` or `register0`; '' for its patches."""
    match = re.fullmatch(r"(.+)@(cls|register\d{1,3})", name)
    return (match[1], match[2]) if match else (name, "")


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """The module with this dotted name, or the network itself for `output`, where no module has that name.

    Raises `UserError` naming the three closest when there is none.
    """
    modules = {OUTPUT: network, **dict(network.named_modules())}
    name = name if name in modules else split_token(name)[0]
    if not name or name not in modules:
        raise unknown("layer", name, layer_names(network), "`atlas layers` lists them all.")
    module: nn.Module = modules[name]
    return module


def find_layers(network: nn.Module, pattern: str) -> list[str]:
    """Names that match a dotted name or a glob such as `blocks.*`, in the order of definition."""
    found = [name for name in layer_names(network) if fnmatch.fnmatchcase(name, pattern)]
    layer, token = split_token(pattern)
    if not found and token:
        return [f"{name}@{token}" for name in find_layers(network, layer)]
    if not found:
        raise unknown("layer", pattern, layer_names(network), "`atlas layers` lists them all.")
    return found


class AllRead(Exception):  # noqa: N818  (a signal, not an error)
    """Ends a forward pass once every wanted layer has been read."""


@contextmanager
def read(network: nn.Module, layers: Sequence[str], *, stop: bool = False) -> Iterator[dict[str, Any]]:
    """Inside the `with`, a forward pass puts the outputs of `layers` into the yielded dict.

    An output is cloned where the rest of the network still runs, so an in-place activation after the layer cannot
    change what was read. With `stop`, the pass ends at the last wanted layer by raising `AllRead`. A module that runs
    several times is read at its first run. The hooks go when the `with` ends, however it ends.
    """
    outputs: dict[str, Any] = {}
    handles = []

    def hook_for(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if name in outputs:
                return
            last = stop and len(outputs) == len(set(layers)) - 1
            outputs[name] = output if last else _clone(output)
            if last:
                raise AllRead

        return hook

    try:
        for name in layers:
            handles.append(find_layer(network, name).register_forward_hook(hook_for(name)))
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def outputs_at(network: nn.Module, inputs: Tensor, layers: Sequence[str]) -> dict[str, Any]:
    """Outputs of `layers` for one forward pass, which stops as soon as the last of them has run.

    Raises `UserError` for a layer that the forward pass never runs.
    """
    with read(network, layers, stop=True) as outputs, suppress(AllRead):
        network(inputs)
    unread = [name for name in layers if name not in outputs]
    if unread:
        raise UserError(f"the forward pass never runs layer {unread[0]!r}; it belongs to a part that is switched off.")
    return outputs


@contextmanager
def replaced(network: nn.Module, layer: str, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside the `with`, the layer's output is what `change` makes of it; at its first run, as it is read.

    Of an output of several tensors, the first. Raises `UserError` in the pass for an output without a tensor.
    """
    runs = 0

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        nonlocal runs
        runs += 1
        if runs > 1:
            return None
        if isinstance(output, Tensor):
            return change(output)
        if isinstance(output, (tuple, list)) and any(isinstance(part, Tensor) for part in output):
            number = next(i for i, part in enumerate(output) if isinstance(part, Tensor))
            parts = [change(part) if i == number else part for i, part in enumerate(output)]
            # A named tuple takes its parts one by one.
            return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
        raise UserError(f"layer {layer!r} returns {type(output).__name__}, not a tensor that could be replaced.")

    handle = find_layer(network, layer).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _clone(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.clone()
    if isinstance(output, (tuple, list)):
        return tuple(_clone(part) for part in output)
    if isinstance(output, Mapping):
        return {key: _clone(part) for key, part in output.items()}
    return output


@dataclass(frozen=True)
class Layout:
    """How a layer's output holds space and channels.

    `kind`: `nchw`, `nhwc`, `tokens` (n, prefix + h * w, c) or `vector` (n, c). `prefix`: how many class and register
    tokens stand before the patch tokens; `grid`: (h, w) of the patch tokens.
    """

    kind: Literal["nchw", "nhwc", "tokens", "vector"]
    prefix: int = 0
    grid: tuple[int, int] = (1, 1)

    def maps(self, output: Any) -> Tensor:
        """The output as (n, c, h, w); class and register tokens are left out, a vector becomes 1 x 1."""
        tensor = first_tensor(output)
        if self.kind == "nchw":
            return tensor
        if self.kind == "nhwc":
            return tensor.permute(0, 3, 1, 2)
        if self.kind == "vector":
            return tensor[:, :, None, None]
        patches = tensor[:, self.prefix :]
        return patches.transpose(1, 2).reshape(len(patches), -1, *self.grid)


def first_tensor(output: Any) -> Tensor:
    """The tensor itself, or the first one in a tuple, list or mapping."""
    if isinstance(output, Tensor):
        return output
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    for part in parts:
        if isinstance(part, Tensor):
            return part
    raise UserError(f"the layer returns {type(output).__name__}, which holds no tensor.")


def infer_layout(network: nn.Module, name: str, output: Any, *, batch: int, size: tuple[int, int]) -> Layout:
    """Decide how `output` of layer `name` is laid out, given the batch size and the input's (height, width).

    Four dimensions: the pair whose ratio is nearer to the input's is space; the network's own word (timm's
    `output_fmt`) decides a draw. Three: tokens; the prefix is the network's own count, else the smallest that leaves
    a grid of the input's proportions.
    """
    tensor = first_tensor(output)
    shape = tuple(tensor.shape)
    if tensor.dim() not in (2, 3, 4) or shape[0] != batch or not tensor.is_floating_point():
        raise UserError(
            f"layer {name!r} returns {tensor.dtype} {shape} for {batch} image(s); it takes a floating-point output "
            f"of shape (n, c, h, w), (n, h, w, c), (n, tokens, c) or (n, c) with n = {batch}."
        )
    if tensor.dim() == 2:
        return Layout("vector")
    if tensor.dim() == 4:
        return Layout(_four_dimensions(network, shape, size))
    return _tokens(network, name, shape, size)


def _four_dimensions(network: nn.Module, shape: tuple[int, ...], size: tuple[int, int]) -> Literal["nchw", "nhwc"]:
    aspect = math.log(size[0] / size[1])
    as_nchw = abs(math.log(shape[2] / shape[3]) - aspect)
    as_nhwc = abs(math.log(shape[1] / shape[2]) - aspect)
    if as_nchw == as_nhwc:
        own_word = str(getattr(network, "output_fmt", "NCHW"))
        return "nhwc" if own_word.endswith("NHWC") else "nchw"
    return "nchw" if as_nchw < as_nhwc else "nhwc"


def _tokens(network: nn.Module, name: str, shape: tuple[int, ...], size: tuple[int, int]) -> Layout:
    own_count = getattr(network, "num_prefix_tokens", None)
    if own_count is None and isinstance(getattr(network, "class_token", None), Tensor):
        own_count = 1
    # No published network is known to prefix more than 16 tokens (registers and class together).
    for prefix in [int(own_count)] if own_count is not None else range(17):
        grid = _grid(shape[1] - prefix, size)
        if grid is not None:
            return Layout("tokens", prefix, grid)
    raise UserError(
        f"layer {name!r} returns {shape}: its {shape[1]} tokens form no grid with the proportions of the "
        f"{size[0]} x {size[1]} input."
    )


def _grid(tokens: int, size: tuple[int, int]) -> tuple[int, int] | None:
    if tokens < 1:
        return None
    rows = round(math.sqrt(tokens * size[0] / size[1]))
    if rows < 1 or tokens % rows:
        return None
    columns = tokens // rows
    fits = abs(rows / columns - size[0] / size[1]) <= 0.5 / min(rows, columns)
    return (rows, columns) if fits else None
