from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featviz.network.rectifiers import LEAK, LeakyGradients

RECTIFIERS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "relu": (F.relu, lambda x: (x > 0).float()),
    "nn.ReLU": (nn.ReLU(), lambda x: (x > 0).float()),
    "in place": (lambda x: nn.ReLU(inplace=True)(x * 1), lambda x: (x > 0).float()),
    "method": (lambda x: x.relu(), lambda x: (x > 0).float()),
    "torch": (torch.relu, lambda x: (x > 0).float()),
    "relu6": (nn.ReLU6(), lambda x: ((x > 0) & (x < 6)).float()),
    "hardtanh": (nn.Hardtanh(-2, 3), lambda x: ((x > -2) & (x < 3)).float()),
    "hardsigmoid": (F.hardsigmoid, lambda x: ((x > -3) & (x < 3)).float() / 6),
}


@pytest.mark.parametrize("name", RECTIFIERS)
def test_values_stay_and_shut_places_let_a_tenth_of_the_gradient_through(name: str) -> None:
    function, slope = RECTIFIERS[name]
    x = torch.tensor([-7.0, -2.5, -0.5, 0.5, 2.5, 7.0], requires_grad=True)
    with LeakyGradients():
        y = function(x)
    assert torch.equal(y, function(x.detach()))
    y.backward(torch.arange(1.0, 7))  # type: ignore[no-untyped-call]
    expected = torch.arange(1.0, 7) * torch.where(slope(x) == 0, LEAK, slope(x))
    assert x.grad is not None
    assert torch.allclose(x.grad, expected.detach())


def test_outside_the_with_nothing_changes() -> None:
    x = torch.tensor([-1.0], requires_grad=True)
    with LeakyGradients():
        pass
    F.relu(x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.item() == 0


def test_hardswish_is_leaky_below_minus_three() -> None:
    x = torch.tensor([-5.0, 1.0], requires_grad=True)
    with LeakyGradients():
        F.hardswish(x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([LEAK, (2 * 1 + 3) / 6])
