"""A copy of a user's network to work on: in eval mode, with plain weights, whatever the network keeps and wraps."""

from __future__ import annotations

import copy
import dis
import io
import threading
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from operator import is_
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ..errors import UserError

# What holds no tensor.
_PLAIN = (int, float, complex, bool, str, bytes, type(None), type, FunctionType, BuiltinFunctionType, torch.dtype,
          torch.device, torch.Size)  # fmt: skip
# What is itself wherever it is kept, and what deepcopy refuses.
_SHARED = (ModuleType, io.IOBase, type(threading.Lock()), type(threading.RLock()), threading.Thread,
           torch.autograd.graph.Node)  # fmt: skip
_OWN = ("_parameters", "_buffers", "_modules")


def frozen_copy(network: nn.Module) -> nn.Module:
    """A `plain_copy` made to be run, over and over: no weight takes a gradient, nothing happens in place."""
    frozen = plain_copy(network, memory_format=torch.channels_last)
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    for module in frozen.modules():
        # In place, autograd has to copy what it needs for the backward pass: slower, and it can alter what was read.
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]
    return frozen


def plain_copy(network: nn.Module, *, memory_format: torch.memory_format = torch.preserve_format) -> nn.Module:
    """A copy in eval mode that shares no tensor with the network, which stays as it is to the last bit.

    Weights that are worked out before each pass (weight and spectral norm, parametrizations, pruning) are plain
    parameters of the value that they have in eval mode. Activations that a module keeps come along as plain tensors.
    A network that is not in float32 takes images in float32 all the same and returns float32.

    memory_format: of weights of four dimensions. Raises `UserError` for a network that keeps what cannot be copied, or
    a function that would go on running the network itself.
    """
    if any(is_lazy(weight) for weight in (*network.parameters(), *network.buffers())):
        raise UserError("the network has lazy layers, whose weights are there after a first pass only: run it once.")
    # Tensors made in inference mode could take part in no backward pass later.
    with torch.inference_mode(False), torch.no_grad():
        memo = _copied(network, memory_format)
        try:
            twin: nn.Module = copy.deepcopy(network, memo)
        except Exception as error:  # whatever the object in question raises
            raise _refusal(network, memo, error) from error
        _check_apart(network, twin)
        twin.eval()
        for module in reversed(list(twin.modules())):  # a parametrization's own weights before the weight made of them
            _settle_hooks(module)
            if parametrize.is_parametrized(module):
                _settle_parametrizations(module)
        if own_dtype(twin) != torch.float32 and _enter not in twin._forward_pre_hooks.values():
            twin.register_forward_pre_hook(_enter, prepend=True)
            twin.register_forward_hook(_leave)
    return twin


def cpu_copy(network: nn.Module) -> nn.Module:
    """A `plain_copy` on the CPU, to look at what a network is made of; in float32, where it is less.

    So that what a layer's weights make of its input can be told from what comes out by more than rounding.
    """
    copied = plain_copy(network).cpu()
    return copied.float() if own_dtype(copied) in (torch.float16, torch.bfloat16) else copied


def runnable(copied: nn.Module, device: torch.device) -> nn.Module:
    """The copy, in float32 where it is in half precision and the device is a CPU.

    A CPU takes no half precision in many operations, is many times as slow in others, and float32 holds every number
    of float16 exactly.
    """
    return copied.float() if device.type == "cpu" and own_dtype(copied) == torch.float16 else copied


def own_dtype(network: nn.Module) -> torch.dtype:
    """The dtype in which images enter a network: that of its first floating-point weight, float32 where it has none."""
    for tensors in (network.parameters(), network.buffers()):
        for tensor in tensors:
            if tensor.is_floating_point():
                return tensor.dtype
    return torch.float32


def each_tensor(value: Any, change: Any) -> Any:
    """A value with `change` made to every tensor in it, of the same types all through; itself where nothing changes."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (tuple, list)):
        parts = [each_tensor(part, change) for part in value]
        if all(map(is_, parts, value)):
            return value
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        changed = {key: each_tensor(part, change) for key, part in value.items()}
        if all(changed[key] is part for key, part in value.items()):
            return value
        twin = copy.copy(value)  # for a class of its own such as a ModelOutput has more than its items
        for key, part in changed.items():
            twin[key] = part
        return twin
    return value


def in_float32(tensor: Tensor) -> Tensor:
    """The tensor, in float32 where it is of another floating-point type."""
    return tensor.float() if tensor.is_floating_point() else tensor


def _enter(network: nn.Module, inputs: tuple[Any, ...]) -> Any:
    dtype = own_dtype(network)
    return each_tensor(inputs, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


def _leave(network: nn.Module, inputs: Any, output: Any) -> Any:
    return each_tensor(output, in_float32)


def _copied(network: nn.Module, memory_format: torch.memory_format) -> dict[int, Any]:
    """What deepcopy is handed as copied already: by its id, the copy.

    It takes twice as long for a weight, and most of its time for the dozen collections of hooks that every module has,
    nearly all of them empty; and it refuses a tensor that hangs on others.
    """
    memo: dict[int, Any] = {}
    others: list[Any] = []
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            if type(parameter) is nn.Parameter:
                memory = memory_format if parameter.dim() == 4 else torch.preserve_format
                twin = parameter.detach().clone(memory_format=memory)
                memo[id(parameter)] = nn.Parameter(twin, requires_grad=parameter.requires_grad)
        for buffer in module.buffers(recurse=False):
            if type(buffer) is Tensor:
                memo[id(buffer)] = buffer.detach().clone()
        for name, value in vars(module).items():
            kind = type(value)
            if kind in _PLAIN or name in _OWN:
                continue
            if kind in (OrderedDict, set) and not value:
                memo[id(value)] = kind()
            else:
                others.append(value)
    _copy_kept(others, memo)
    return memo


def _copy_kept(others: list[Any], memo: dict[int, Any]) -> None:
    """Add to the memo the tensors with a gradient that modules keep, however deep inside what they keep."""
    seen: set[int] = set()
    while others:
        value = others.pop()
        if type(value) in _PLAIN or id(value) in memo or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            if value.requires_grad and not isinstance(value, nn.Parameter):
                memo[id(value)] = value.detach().clone()
        elif isinstance(value, _SHARED):
            memo[id(value)] = value
        else:
            others.extend(_inside(value))


def _inside(value: Any) -> Iterable[Any]:
    """What an object holds, as far as deepcopy would look."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return list(value)
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, MethodType):
        return [value.__self__]
    slots = getattr(type(value), "__slots__", ())
    held = [getattr(value, slot, None) for slot in ((slots,) if isinstance(slots, str) else slots)]
    return [*held, *getattr(value, "__dict__", {}).values()]


def _check_apart(network: nn.Module, twin: nn.Module) -> None:
    """Raise `UserError` where a function that the twin keeps has hold of a module of the network itself.

    Functions are copied as they are, with what they close over; bound methods and partial functions are bound anew.
    """
    own = set(map(id, network.modules()))
    for name, module in twin.named_modules():
        for key, value in vars(module).items():
            if key in _OWN or "state_dict" in key:  # what is called around a state dict runs in no pass
                continue
            if any(_holds(function, own) for function in _functions(value)):
                where = f"its layer {name!r}" if name else "it"
                what = "a hook" if key.endswith("_hooks") else f"a function in {key!r}"
                raise UserError(
                    f"the network cannot be copied, and all work happens on a copy: {where} keeps {what} that closes "
                    "over the network itself, so that a copy would run the original's layers: make it a method, or "
                    "bind it by functools.partial or types.MethodType."
                )


def _functions(kept: Any) -> Iterator[FunctionType]:
    """The functions in what a module keeps, however deep; those of other modules are theirs."""
    pending, seen = [kept], set[int]()
    while pending:
        value = pending.pop()
        if isinstance(value, FunctionType):
            yield value
        elif not (type(value) in _PLAIN or isinstance(value, (nn.Module, Tensor, *_SHARED)) or id(value) in seen):
            seen.add(id(value))
            pending.extend(_inside(value))
            pending.extend([value.__func__] if isinstance(value, MethodType) else [])


def _holds(function: FunctionType, own: Collection[int]) -> bool:
    """Whether a function, or one that it closes over, has hold of one of these objects, by their ids."""
    pending, seen = [function], set[int]()
    while pending:
        value: Any = pending.pop()
        if id(value) in own:
            return True
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, FunctionType):
            pending.extend(_captured(value))
        elif isinstance(value, (dict, list, tuple, partial, MethodType)):
            pending.extend(_inside(value))
    return False


def _captured(function: FunctionType) -> Iterator[Any]:
    """What a function closes over, its defaults, and the modules among the globals that it reads."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # not filled yet
            yield cell.cell_contents
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for name in _globals_read(function.__code__):
        if isinstance(found := function.__globals__.get(name), nn.Module):
            yield found


@cache
def _globals_read(code: CodeType) -> frozenset[str]:
    inner = [_globals_read(each) for each in code.co_consts if isinstance(each, CodeType)]
    read = {each.argval for each in dis.get_instructions(code) if each.opname == "LOAD_GLOBAL"}
    return frozenset(read).union(*inner)


def _refusal(network: nn.Module, memo: Mapping[int, Any], error: Exception) -> UserError:
    """What is said of a network that deepcopy refuses: which module keeps what it refuses."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    for name, module in network.named_modules():
        for key, value in vars(module).items():
            if key in _OWN:
                continue
            try:
                copy.deepcopy(value, dict(memo))
            except Exception:
                where = f"its layer {name!r}" if name else "it"
                return UserError(
                    f"the network cannot be copied, and all work happens on a copy: {where} keeps "
                    f"{type(value).__name__} in {key!r}: {reason}. Delete that attribute, or set it to None."
                )
    return UserError(f"the network cannot be copied, and all work happens on a copy: {reason}.")


def _settle_hooks(module: nn.Module) -> None:
    """Weights that a hook works out before each pass become plain; the last hook's first, as others may read them."""
    for key, hook in reversed(list(module._forward_pre_hooks.items())):
        if isinstance(hook, WeightNorm):
            name, value, parts = hook.name, hook.compute_weight(module), ("_g", "_v")
        elif isinstance(hook, SpectralNorm):
            name, value = hook.name, hook.compute_weight(module, do_power_iteration=False)
            parts = ("_orig", "_u", "_v")  # type: ignore[assignment]
        elif isinstance(hook, prune.BasePruningMethod):
            name, value = hook._tensor_name, hook.apply_mask(module)  # type: ignore[no-untyped-call]
            parts = ("_orig", "_mask")
        else:
            continue
        grad = any(part.requires_grad for end in parts if (part := module._parameters.get(name + end)) is not None)
        for end in parts:
            module._parameters.pop(name + end, None)
            module._buffers.pop(name + end, None)
        vars(module).pop(name, None)
        del module._forward_pre_hooks[key]
        module._forward_pre_hooks_with_kwargs.pop(key, None)
        for hooks in (module._state_dict_hooks, module._load_state_dict_pre_hooks):
            for number, each in list(hooks.items()):
                if getattr(getattr(each, "hook", each), "fn", None) is hook:
                    del hooks[number]
        setattr(module, name, nn.Parameter(value.detach().clone(), requires_grad=grad))


def _settle_parametrizations(module: nn.Module) -> None:
    # Not by torch's own remove_parametrizations: it deletes the property from the class, which the copy has in common
    # with the user's module.
    found: dict[str, Any] = {}
    lists: Any = module.parametrizations
    for name, each in lists.items():
        value = getattr(module, name).detach().clone()
        own = [tensor for tensor in each._parameters.values() if tensor is not None]
        found[name] = nn.Parameter(value, requires_grad=any(p.requires_grad for p in own)) if own else value
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module._modules["parametrizations"]
    for name, value in found.items():
        if isinstance(value, nn.Parameter):
            setattr(module, name, value)
        else:
            module.register_buffer(name, value)
