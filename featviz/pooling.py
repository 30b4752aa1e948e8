"""Max pooling with a smooth derivative: the strongest value goes on, all of the window answer for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import Tensor, nn

# Keeps the mean of an empty window from being divided by zero.
_FLOOR = 1e-2


@contextmanager
def relaxed_max_pools(network: nn.Module) -> Iterator[int]:
    """Inside the `with`, the derivative of each max pooling is that of a smooth stand-in; its value stays the maximum.

    The stand-in is the mean of the squares over the mean of the sizes in the window. It spreads a derivative, which
    otherwise jumps between neighbours, over all values by their size: less noise, and less of what the network really
    does. Yields how many layers are changed. Carter et al. 2019, "Activation Atlas": "a continuous relaxation of the
    gradient for max pooling"; lucid's notebooks use this one.
    """
    handles = [pool.register_forward_hook(_relaxed) for pool in max_pools(network)]
    try:
        yield len(handles)
    finally:
        for handle in handles:
            handle.remove()


def max_pools(network: nn.Module) -> list[nn.MaxPool2d]:
    """The layers that `relaxed_max_pools` changes: those whose windows have no holes."""
    pools = [module for module in network.modules() if isinstance(module, nn.MaxPool2d)]
    return [pool for pool in pools if pool.dilation in (1, (1, 1))]


def _relaxed(pool: nn.MaxPool2d, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    smooth = _smooth(pool, inputs[0])
    return _value(output) + (smooth - _value(smooth))


def _smooth(pool: nn.MaxPool2d, maps: Tensor) -> Tensor:
    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode)

    return mean(maps.square()) / (_FLOOR + mean(maps.abs()))


def _value(numbers: Tensor) -> Tensor:
    """The numbers without what is known of their derivative, in either mode."""
    value: Tensor = forward_ad.unpack_dual(numbers).primal.detach()  # type: ignore[no-untyped-call]
    return value
