from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from toys import conv_net

import featviz
from featviz import Model
from featviz.draw import objectives
from featviz.explain.target import Target
from featviz.network.gradients import GradientError
from featviz.network.trunk import Trunk
from featviz.network.units import Unit


def test_what_the_caller_has_switched_off_makes_no_difference() -> None:
    def draw() -> Tensor:
        network = conv_net().eval()
        model = Model.wrap(network, size=16)
        wish = objectives.channel("5", [0, 1]) + objectives.alignment("2", 2)
        trunk = Trunk(model, wish.layers)
        return featviz.maximize(model, wish, size=16, steps=2, start=torch.full((3, 16, 16), 0.4), trunk=trunk).images

    expected = draw()
    for off in (torch.no_grad(), torch.inference_mode()):
        with off:
            found = draw()
            assert not torch.is_grad_enabled()
        assert torch.equal(found, expected)


class Own(nn.Module):
    """A network whose forward is what a function makes of another one."""

    def __init__(self, forward: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.how = conv_net(), forward

    def forward(self, images: Tensor) -> Tensor:
        return self.how(self.body, images)


class _Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:  # type: ignore[override]  # noqa: ARG004
        return values / 2


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (torch.no_grad()(lambda body, images: body(images)), "no gradient passes through mine to layer 'output'"),
        (torch.inference_mode()(lambda body, images: body(images)), "no gradient passes through mine"),
        (lambda body, images: body(images.detach()), "no gradient passes through mine"),
        (lambda body, images: (body(images) > 0).float(), "a comparison"),
        (lambda body, images: torch.from_numpy(body(images).detach().numpy()), "no gradient passes through mine"),
        (lambda body, images: torch.from_numpy(body(images).numpy()), "leaves torch"),
        (lambda body, images: body(images).round(), "uses round"),
        (lambda body, images: _Half.apply(body(images)), "cannot be followed back through mine: You must implement"),
    ],
)
def test_a_forward_without_a_gradient_is_said_to_be_one(
    forward: Callable[[nn.Module, Tensor], Tensor], message: str
) -> None:
    model, steps = Model.wrap(Own(forward).eval(), size=16, name="mine"), []
    with pytest.raises(featviz.UserError, match=message):
        featviz.maximize(
            model, objectives.channel("output", 0), size=16, steps=9, watch=lambda now: steps.append(now.step)
        )
    assert not steps  # at the very first one


def test_explanations_by_derivatives_say_so_too() -> None:
    model = Model.wrap(Own(torch.no_grad()(lambda body, images: body(images))).eval(), size=16)
    target, images = Target(model, Unit("output", 1)), torch.rand(1, 3, 16, 16)
    assert target.values(images).isfinite().all()  # without one, all is well
    with pytest.raises(GradientError, match="no gradient passes"):
        target.gradients(images)
    with pytest.raises(GradientError, match="no gradient passes"):
        _ = target.last_map


def test_a_dead_unit_is_no_forward_that_rounds() -> None:
    network = conv_net().eval()
    with torch.no_grad():
        network[4].bias.fill_(-99.0)  # type: ignore[union-attr, operator]
    drawn = featviz.maximize(Model.wrap(network, size=16), objectives.channel("5", 0), size=16, steps=2)
    assert drawn.rescued.tolist() == [2]
