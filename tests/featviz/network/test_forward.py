from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import conv_net

import featviz
from featviz import Model, UserError
from featviz.explain.target import Target
from featviz.network.forward import ForwardError, out_of_memory, told
from featviz.network.trunk import Trunk
from featviz.network.units import Unit


class Own(nn.Module):
    def __init__(self, forward: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.body, self.how = conv_net(), forward

    def forward(self, images: Tensor) -> Any:
        return self.how(self.body, images)


def _two(images: Tensor, masks: Tensor) -> Tensor:
    return images * masks


GIVEN = r"which was given \(\d, "


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (conv_net(inputs=1), rf"in layer '0' \(Conv2d\), {GIVEN}3, 16, 16\): .*to have 1 channels.*Hint: .*`mean=`"),
        (nn.Sequential(nn.MaxPool2d(4), nn.Sequential(nn.Conv2d(3, 4, 7))),
         rf"mine, given \(\d, 3, 16, 16\), fails in layer '1\.0' \(Conv2d\), {GIVEN}3, 4, 4\): .*too small"),
        (nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), rf"in layer '1' \(Linear\), {GIVEN}768\): .*`size=`"),
        (nn.Sequential(Own(lambda body, images: (images, images)), nn.Conv2d(3, 4, 3)),
         r"in layer '1' \(Conv2d\), which was given tuple of 2 \(\(\d, 3, 16, 16\), .*forward unpacks"),
        (nn.Sequential(conv_net(), nn.Linear(4, 4).double()), r"in layer '1' \(Linear\).*several dtypes"),
        (Own(lambda body, images: body(images).missing), r"the network itself \(Own\).*AttributeError"),
        (Own(lambda body, images: _two(images)), "one tensor of images and nothing else"),  # type: ignore[call-arg]
        (Own(lambda body, images: body(images[:, :1])), rf"in layer 'body\.0' \(Conv2d\), {GIVEN}1, 16, 16\)"),
        (Own(lambda body, images: {}["absent"]), r"KeyError: 'absent'.*can be tried by itself"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("run", ["trunk", "folded", "target", "maximize"])
def test_an_error_of_a_forward_names_the_layer(network: nn.Module, message: str, run: str) -> None:
    model = Model.wrap(network.eval(), size=16, name="mine")
    runs: dict[str, Callable[[], Any]] = {
        "trunk": lambda: Trunk(model, ["output"], fold=False)(torch.rand(1, 3, 16, 16)),
        "folded": lambda: Trunk(model, ["output"]),
        "target": lambda: Target(model, Unit("output", 0)),
        "maximize": lambda: featviz.maximize(model, "output:0", size=16, steps=1),
    }
    with pytest.raises(UserError, match=message) as caught:
        runs[run]()
    assert isinstance(caught.value, RuntimeError)  # for what falls back on one
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory"), MemoryError()]
)
def test_too_little_memory_passes_as_it_is(error: Exception) -> None:
    def fail(body: nn.Module, images: Tensor) -> Tensor:
        raise error

    with pytest.raises(type(error)) as caught:
        Trunk(Model.wrap(Own(fail), size=16), ["output"], fold=False)(torch.rand(1, 3, 16, 16))
    assert caught.value is error
    assert out_of_memory(error)


def test_what_is_no_error_of_a_network_passes_as_it_is() -> None:
    for error in (UserError("a wish"), ZeroDivisionError("ours"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, told("mine"):
            raise error
        assert caught.value is error


def test_a_size_that_a_network_does_not_take_is_still_tried_and_left() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Flatten(), nn.Linear(256, 2)).eval()
    trunk = Trunk(Model.wrap(network, size=16), ["output"])
    assert trunk.input_size((24, 24)) == (16, 16)
    assert trunk(torch.rand(2, 3, 24, 24))["output"].shape == (2, 2, 1, 1)
    assert issubclass(ForwardError, RuntimeError)
