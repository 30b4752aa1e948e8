"""Find a layer by dotted name or glob, stop the forward pass there, and read its output as (n, c, h, w)."""

from __future__ import annotations

import copy
import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..errors import UserError, unknown
from .copies import each_tensor, in_float32
from .layout import Layout, first_tensor, infer_layout, tensors

__all__ = [
    "OUTPUT", "AllRead", "Layout", "as_network", "find_layer", "find_layers", "first_tensor", "infer_layout",
    "layer_names", "named_layers", "outputs_at", "read", "replaced",
]  # fmt: skip

# The layer name of what the whole network returns: for a classifier, its class logits. A module of that name at the top
# of a network is `.output`.
OUTPUT = "output"
# Where a layer is unknown; the command knows published networks alone.
LISTED = "`atlas layers` lists them all, in Python `featviz.layer_names(network)`."


def layer_names(network: nn.Module) -> list[str]:
    """Dotted names of every module below the root, in the order of definition; of one called `output`, `.output`."""
    return list(named_layers(network))


def named_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Every module below the root by its layer name, in the order of definition."""
    return {f".{name}" if name == OUTPUT else name: module for name, module in network.named_modules() if name}


def split_token(name: str) -> tuple[str, str]:
    """A layer's name and the class or register token that is read of it, `cls` or `register0`; '' for its patches."""
    match = re.fullmatch(r"(.+)@(cls|register\d{1,3})", name)
    return (match[1], match[2]) if match else (name, "")


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """The module with this layer name, or the network itself for `output`.

    Raises `UserError` naming the three closest when there is none.
    """
    if name == OUTPUT:
        return network
    modules = named_layers(network)
    own = name if name in modules else split_token(name)[0]
    if own not in modules:
        raise unknown("layer", name, layer_names(network), LISTED)
    return modules[own]


def as_network(inputs: Tensor, network: nn.Module) -> Tensor:
    """The inputs on the device of the network's weights."""
    own = next(network.parameters(), None)
    return inputs if own is None else inputs.to(own.device)


def find_layers(network: nn.Module, pattern: str) -> list[str]:
    """The layer of that name, else the names that match a glob such as `blocks.*`, in the order of definition."""
    names = layer_names(network)
    if pattern in names:  # a name may hold what a glob takes for its own
        return [pattern]
    found = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
    layer, token = split_token(pattern)
    if not found and token:
        return [f"{name}@{token}" for name in find_layers(network, layer)]
    if not found:
        raise unknown("layer", pattern, names, LISTED)
    return found


class AllRead(Exception):  # noqa: N818  (a signal, not an error)
    """Ends a forward pass once every wanted layer has been read into `outputs`."""

    def __init__(self, outputs: dict[str, Any]) -> None:
        super().__init__()
        self.outputs = outputs


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
            # In float32, which is all that NumPy and what follows understand.
            outputs[name] = each_tensor(output, in_float32) if last else _clone(each_tensor(output, in_float32))
            if last:
                raise AllRead(outputs)

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
    with read(network, layers, stop=True) as outputs:
        try:
            network(inputs)
        except AllRead as signal:
            if signal.outputs is not outputs:  # of a pass around this one: a network may read its own layers
                raise
    unread = [name for name in layers if name not in outputs]
    if unread:
        raise UserError(f"the forward pass never runs layer {unread[0]!r}; it belongs to a part that is switched off.")
    return outputs


@contextmanager
def replaced(
    network: nn.Module, layer: str, change: Callable[[Tensor], Tensor], *, part: tuple[str | int, ...] = ()
) -> Iterator[None]:
    """Inside the `with`, the layer's output is what `change` makes of it; at its first run, as it is read.

    part: where the tensor lies in an output of several; () for the first. Raises `UserError` in the pass for an output
    without a tensor.
    """
    runs = 0

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        nonlocal runs
        runs += 1
        if runs > 1:
            return None
        paths = [part] if part else [path for path, _ in tensors(output)]
        if not paths:
            raise UserError(f"layer {layer!r} returns {type(output).__name__}, not a tensor that could be replaced.")
        return _with_part(output, paths[0], change)

    handle = find_layer(network, layer).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _with_part(output: Any, part: tuple[str | int, ...], change: Callable[[Tensor], Tensor]) -> Any:
    """The output, with the tensor at `part` changed."""
    if not part:
        return change(output)
    key, *rest = part
    if isinstance(output, (tuple, list)):
        parts = [_with_part(each, tuple(rest), change) if i == key else each for i, each in enumerate(output)]
        # A named tuple takes its parts one by one.
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    changed: Any = copy.copy(output)
    if isinstance(output, Mapping):
        changed[key] = _with_part(output[key], tuple(rest), change)
    else:
        setattr(changed, str(key), _with_part(getattr(output, str(key)), tuple(rest), change))
    return changed


def _clone(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.clone()
    if isinstance(output, (tuple, list)):
        return tuple(_clone(part) for part in output)
    if isinstance(output, Mapping):
        return {key: _clone(part) for key, part in output.items()}
    return output
