from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers import activations, activations_me
from torch import Tensor, nn
from toys import toy_model

from featviz.draw.certificate import certificate_trunk, certify
from featviz.draw.maximize import maximize
from featviz.draw.objectives import channel
from featviz.draw.rising import falls, rising
from featviz.draw.transforms import Affine
from featviz.network.models import Model
from featviz.network.rectifiers import LEAK, LeakyGradients
from featviz.network.trunk import Trunk
from featviz.network.units import Unit

STILL = Affine()


def _tanh_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x.pow(3))))


FALLING: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "nn.GELU": nn.GELU(),
    "nn.GELU by tanh": nn.GELU(approximate="tanh"),
    "gelu written out": lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
    "gelu by tanh written out": _tanh_gelu,
    "quick gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "quick gelu, gate first": lambda x: torch.sigmoid(1.702 * x) * x,
    "silu": F.silu,
    "nn.SiLU in place": lambda x: nn.SiLU(inplace=True)(x * 1),
    "silu, method": lambda x: x.mul(x.sigmoid()),
    "mish": F.mish,
    "nn.Mish": nn.Mish(),
    "hardswish": F.hardswish,
    "hardswish written out": lambda x: x * (F.relu6(x + 3) / 6),
    "hardswish written out, a sixth last": lambda x: x * F.relu6(x + 3) / 6,
    "gelu written out, halved last": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
    "silu written out, scaled both ways": lambda x: 2 * x * torch.sigmoid(x) * 0.5,
    **{
        f"timm's {name}": getattr(activations, name)()
        for name in ("GELU", "GELUTanh", "QuickGELU", "Swish", "Mish", "HardSwish", "HardMish")
    },
    **{
        f"timm's {name}": getattr(activations_me, name)() for name in ("SwishMe", "MishMe", "HardSwishMe", "HardMishMe")
    },
}
OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "square": lambda x: x * x,
    "attention by another": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "residual": lambda x: x + F.gelu(x),
    "none": lambda x: x * 2,
}
VALUES = [-9.0, -4.0, -1.9, -1.6, -1.0, -0.5, 0.5, 2.0]


SHUT = VALUES[:5]


def _pass(
    function: Callable[[Tensor], Tensor], loss: Callable[[Tensor], Tensor], values: list[float] = VALUES
) -> tuple[Tensor, Any]:
    """The gradient at maps of two channels, both of the values along a row, and what `rising` did."""
    x = torch.tensor(values).expand(1, 2, 1, -1).clone().requires_grad_()
    y = function(x * 1)
    made = rising(y)
    assert torch.equal(y, function(x.detach()))
    loss(y).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    return x.grad, made


def _slope(function: Callable[[Tensor], Tensor], values: list[float] = VALUES) -> Tensor:
    """By differences, in double precision."""
    x = torch.tensor(values, dtype=torch.float64)
    return (function(x + 1e-6) - function(x - 1e-6)) / 2e-6


@pytest.mark.parametrize("name", FALLING)
def test_the_channel_that_is_climbed_rises_and_all_else_goes_as_it_did(name: str) -> None:
    function = FALLING[name]
    slope = _slope(function).float()
    found, made = _pass(function, lambda y: -y[:, 1].sum())
    assert made is not None
    assert torch.allclose(found[0, 1, 0], -slope.clamp(min=0), atol=2e-4)  # open at some places
    assert not found[0, 0].any()
    shut, made = _pass(function, lambda y: -y[:, 1].sum(), SHUT)
    assert torch.allclose(shut[0, 1, 0], -_slope(function, SHUT).float().clamp(min=LEAK), atol=2e-4)
    assert made.shut.tolist() == [True]
    down, _ = _pass(function, lambda y: y[:, 1].sum())  # a unit's opposite goes down as it did
    assert torch.allclose(down[0, 1, 0], slope, atol=2e-4)
    mixed, _ = _pass(function, lambda y: -y[:, 1].sum() - 0.5 * y[:, 0].sum())
    assert torch.allclose(mixed[0, 0, 0], -0.5 * slope, atol=2e-4)  # what has the smaller part is not climbed


@pytest.mark.parametrize("name", OTHERS)
def test_nothing_else_is_changed(name: str) -> None:
    found, made = _pass(OTHERS[name], lambda y: -y[:, 1].sum())
    assert made is None
    x = torch.tensor(VALUES).expand(1, 2, 1, -1).clone().requires_grad_()
    (-OTHERS[name](x)[:, 1].sum()).backward()  # type: ignore[no-untyped-call]
    assert torch.equal(found, x.grad)


@pytest.mark.parametrize(
    "read",
    [
        lambda y: y.permute(0, 2, 3, 1).clone().permute(0, 3, 1, 2),
        lambda y: y.flatten(2).mean(2)[:, :, None, None],
        lambda y: F.dropout(y * torch.tensor([2.0, 3.0])[:, None, None], training=False),
    ],
    ids=["layout", "mean", "scaled"],
)
def test_a_unit_read_behind_what_only_moves_values_is_the_unit(read: Callable[[Tensor], Tensor]) -> None:
    found, made = _pass(lambda x: F.gelu(x), lambda y: -y[:, 1].sum())
    x = torch.tensor(VALUES).expand(1, 2, 1, -1).clone().requires_grad_()
    maps = read(F.gelu(x))
    assert rising(maps) is not None
    (-maps[:, 1].sum()).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert torch.allclose(x.grad / x.grad[0, 1, 0, -1], found / found[0, 1, 0, -1], atol=1e-5)
    assert made.shut.tolist() == [False]


def test_a_weight_of_each_channel_is_no_part_of_the_function() -> None:
    x = torch.full((1, 2, 1, 3), 3.0, requires_grad=True)
    maps = x * torch.sigmoid(x) * torch.tensor([1.0, 1e-3])[:, None, None]
    made = rising(maps)
    (-maps[:, 1].sum()).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert torch.allclose(x.grad[0, 1, 0], -1e-3 * _slope(F.silu, [3.0] * 3).float(), rtol=1e-3)
    assert made is not None
    assert made.shut is not None
    assert made.shut.tolist() == [False]


def test_tokens_behind_a_prefix_keep_their_channels() -> None:
    x = torch.full((2, 5, 3), -2.0, requires_grad=True)
    maps = F.gelu(x)[:, 1:].transpose(1, 2).reshape(2, 3, 2, 2)
    made = rising(maps)
    (-maps[:, 2].mean((1, 2)).sum()).backward()  # type: ignore[no-untyped-call]
    assert made is not None
    assert made.shut is not None
    assert made.shut.tolist() == [True, True]
    assert x.grad is not None
    assert torch.allclose(x.grad[:, 1:, 2], torch.tensor(-LEAK / 4))
    assert not x.grad[:, 0].any()
    assert not x.grad[..., :2].any()


def test_a_rescue_of_what_is_shut_before_still_rises() -> None:
    x = torch.full((1, 1, 1, 4), -2.0, requires_grad=True)
    with LeakyGradients():
        maps = F.hardswish(x * 1)
        assert rising(maps) is not None
        (-maps.sum()).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert torch.allclose(x.grad, torch.tensor(-LEAK))


class _Fogged(nn.Module):
    """Channels f(8 * brightness - threshold): on grey the first is open, the second shut, the third out of reach."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.act = act

    def forward(self, images: Tensor) -> Tensor:
        bright = 8 * images.mean(1, keepdim=True)
        return self.act(torch.cat([bright - 3, bright - 6, bright - 20], 1)) * 1


@pytest.mark.parametrize("act", [nn.GELU(), nn.SiLU(), nn.Mish(), nn.Hardswish(), activations.QuickGELU()])
def test_a_live_unit_is_found_live_and_a_dead_one_called_dead(act: nn.Module) -> None:
    model = Model.wrap(_Fogged(act), size=16, mean=(0.0,), std=(1.0,))
    made = maximize(model, channel("act", [0, 1, 2]), size=16, steps=60, lr=0.3, transform=STILL, canvas="pixel",
                    chunk=3)  # fmt: skip
    assert made.clean[0] > 4
    assert made.clean[1] > 1
    assert made.rescued[0] == 0
    assert 0 < made.rescued[1] < 60
    assert made.rescued[2] == 60
    trunk = certificate_trunk(model, "act")
    found = [certify(Unit("act", number), picture, trunk).dead for number, picture in enumerate(made.images)]
    assert found == [None, None, True]
    # Only what comes out of such a function is said to be dead by its value.
    assert certify(Unit("output", 2), made.images[2], certificate_trunk(model, "output")).dead is True
    assert certify(Unit("act", 2, sign=-1), made.images[2], trunk).dead is None


def test_pictures_of_networks_without_such_a_function_are_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    model, wish = toy_model(), channel("5", [0, 1, 2])
    made = maximize(model, wish, size=32, steps=12, chunk=3)
    monkeypatch.setattr("featviz.draw.ascent.rising", lambda maps: None)
    before = maximize(model, wish, size=32, steps=12, chunk=3)
    assert torch.equal(made.images, before.images)
    assert torch.equal(made.rescued, before.rescued)


def test_a_trunk_says_whether_a_layer_falls() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 4, 3), nn.ReLU())
    trunk = Trunk(Model.wrap(network, size=16), ["0", "1", "2", "3"])
    with torch.inference_mode():
        found = [falls(trunk, layer, torch.rand(1, 3, 16, 16)) for layer in trunk.layers]
    assert found == [False, True, False, False]
