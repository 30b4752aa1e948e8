"""Rectifiers that answer the same but let a gradient through where they are shut: how a dead unit gets a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Share of the gradient that passes where the rectifier's own is nothing.
LEAK = 0.1


class LeakyGradients(TorchFunctionMode):
    """Inside the `with`, every rectifier keeps its values, and its gradient is at least a tenth where it would be 0.

    Covers relu, relu6, hardtanh, hardsigmoid and hardswish, called as module, function or method. The idea is Lucid's
    (redirected ReLU gradients, Olah et al. 2017); there a whole batch decides, here `maximize` asks for each picture.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        rectifier = _RECTIFIERS.get(func)
        if rectifier is None or not args or not isinstance(args[0], Tensor) or not args[0].requires_grad:
            return func(*args, **kwargs)
        rest = {key: value for key, value in kwargs.items() if key != "inplace"}
        bounds = tuple(argument for argument in args[1:] if not isinstance(argument, bool))
        result: Tensor = _Leaky.apply(args[0], lambda x: rectifier(x, *bounds, **rest))
        return result


class _Leaky(torch.autograd.Function):
    """f(x) with the gradient of f where that is not 0, else a share of the incoming one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            result = function(leaf)
        (slope,) = torch.autograd.grad(result, leaf, torch.ones_like(result))
        ctx.save_for_backward(slope)
        return result.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return gradients[0] * torch.where(slope == 0, LEAK, slope), None


_RECTIFIERS: Mapping[Any, Callable[..., Tensor]] = {
    F.relu: F.relu,
    F.relu_: F.relu,
    torch.relu: F.relu,
    torch.relu_: F.relu,
    Tensor.relu: F.relu,
    Tensor.relu_: F.relu,
    F.relu6: F.relu6,
    F.hardtanh: F.hardtanh,
    F.hardtanh_: F.hardtanh,
    F.hardsigmoid: F.hardsigmoid,
    F.hardswish: F.hardswish,
}
