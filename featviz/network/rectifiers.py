"""Activation functions that answer the same and send another gradient back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Share of the gradient that passes where the rectifier's own is nothing.
LEAK = 0.1
# (the gradient that comes, the function's slope, where it was given more than 0) -> the gradient that goes on. Of a
# ReLU, the latter two are one tensor of 0 and 1.
Rule = Callable[[Tensor, Tensor, Tensor], Tensor]


def _with(function: Callable[..., Tensor], *others: Any) -> dict[Any, Callable[..., Tensor]]:
    return dict.fromkeys((function, *others), function)


# As module, function or method, in place or not.
_RECTIFIERS: Mapping[Any, Callable[..., Tensor]] = {
    **_with(F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_),
    **_with(F.relu6),
    **_with(F.hardtanh, F.hardtanh_),
    **_with(F.hardsigmoid),
    **_with(F.hardswish),
}
# What a deconvolution treats as a rectifier, too: alike in shape, without an edge or without a flat part.
_ALIKE: Mapping[Any, Callable[..., Tensor]] = {
    **_with(F.silu),
    **_with(F.gelu),
    **_with(F.mish),
    **_with(F.softplus),
    **_with(F.elu, F.elu_),
    **_with(F.leaky_relu, F.leaky_relu_),
    **_with(F.prelu, torch.prelu),
    **_with(F.selu, F.selu_, torch.selu, torch.selu_),
    **_with(F.celu, F.celu_, torch.celu, torch.celu_),
    **_with(F.rrelu, F.rrelu_),
    **_with(F.threshold),
}
_IN_PLACE = (F.relu_, torch.relu_, Tensor.relu_, F.hardtanh_, F.elu_, F.leaky_relu_, F.selu_, torch.selu_, F.celu_,
             torch.celu_, F.rrelu_)  # fmt: skip


class BackwardRule(TorchFunctionMode):
    """Inside the `with`, activation functions keep their values, and their gradient is what a rule makes of it.

    `met`: the names of those that ran. alike: not of relu, relu6, hardtanh, hardsigmoid and hardswish, but of whatever
    rectifies: SiLU, GELU, Mish, softplus, ELU, SELU, CELU, leaky, random and parametric ReLU and thresholds too, and
    not of hardsigmoid, which is a gate.
    """

    def __init__(self, rule: Rule, *, alike: bool = False) -> None:
        super().__init__()
        self.rule, self.met = rule, set[str]()
        self._functions = {**_RECTIFIERS, **_ALIKE} if alike else dict(_RECTIFIERS)
        if alike:
            del self._functions[F.hardsigmoid]

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        function = self._functions.get(func)
        if function is None or not args or not isinstance(args[0], Tensor) or not args[0].requires_grad:
            return func(*args, **kwargs)
        self.met.add(_name(function, args[1:], kwargs))
        in_place = func in _IN_PLACE or kwargs.get("inplace") is True or any(each is True for each in args[1:])
        rest = {key: value for key, value in kwargs.items() if key != "inplace"}
        bounds = tuple(argument for argument in args[1:] if not isinstance(argument, bool))
        plain = function if function is F.relu else lambda x: function(x, *bounds, **rest)
        result: Tensor = _Ruled.apply(args[0], plain, self.rule, function is F.hardswish)
        return args[0].copy_(result) if in_place else result


def _name(function: Callable[..., Any], bounds: tuple[Any, ...], options: Mapping[str, Any]) -> str:
    """The function's name; of a hardtanh from 0 on, as ReLU6 calls it, relu6."""
    name = function.__name__
    lowest = options.get("min_val", bounds[0] if bounds else -1.0)
    return "relu6" if name == "hardtanh" and lowest == 0 else name


class LeakyGradients(BackwardRule):
    """Inside the `with`, every rectifier keeps its values, and its gradient is at least a tenth where it would be 0.

    The idea is Lucid's (redirected ReLU gradients, Olah et al. 2017); there a whole batch decides, here `maximize` asks
    for each picture.
    """

    def __init__(self) -> None:
        super().__init__(_leaky)


def _leaky(gradient: Tensor, slope: Tensor, above: Tensor) -> Tensor:
    # slope, or LEAK where that is 0: several times as fast as torch.where, and the same to the last bit.
    shut = slope.abs().sign_().neg_().add_(1)
    return gradient * shut.mul_(LEAK).add_(slope)


def rise(gradient: Tensor, slope: Tensor, above: Tensor) -> Tensor:
    """The rule for a function that falls before it rises: nowhere less than 0, of what is shut at least a tenth.

    above: whether the unit is given more than 0 at any of its places; then it is a ReLU's in all but name.
    """
    return gradient * torch.where(above, slope.clamp(min=0), slope.clamp(min=LEAK))


class _Ruled(torch.autograd.Function):
    """f(x), whose gradient is the rule's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor], rule: Rule, falls: bool) -> Tensor:
        if function is F.relu:  # by far the most frequent: what is above 0 has a slope of 1, all else of 0
            result = F.relu(x)
            ctx.save_for_backward(result.sign())
        else:
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                result = function(leaf)
            (slope,) = torch.autograd.grad(result, leaf, torch.ones_like(result))
            # A bit for each value, not the input itself: the network may change that in place.
            ctx.save_for_backward(slope, x > 0)
        ctx.rule = rule
        ctx.falls = falls  # for `rising`, which looks for such functions
        return result.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        slope, *others = ctx.saved_tensors
        above = others[0] if others else slope
        return ctx.rule(gradients[0], slope, above), None, None, None
