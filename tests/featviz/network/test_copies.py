from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from functools import partial
from types import MethodType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.nn.utils.parametrize import is_parametrized
from toys import conv_net

import featviz
from featviz import Model
from featviz.errors import UserError
from featviz.explain.target import Target
from featviz.network.classifier import find_classifier
from featviz.network.copies import cpu_copy, frozen_copy, own_dtype, plain_copy
from featviz.network.effects import ClassEffects
from featviz.network.layers import outputs_at
from featviz.network.trunk import Trunk
from featviz.network.units import Unit


class Keeps(nn.Module):
    """A network that keeps what its first convolution gives, in whatever `wrap` makes of it."""

    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body, self.wrap, self.kept = conv_net(), wrap, None

    def forward(self, images: Tensor) -> Tensor:
        first = self.body[0](images)
        self.kept = self.wrap(first)
        result: Tensor = self.body[1:](first)
        return result


@pytest.mark.parametrize(
    "wrap",
    [
        lambda kept: kept,
        lambda kept: [kept, {"a": (kept,)}],
        lambda kept: SimpleNamespace(inner=SimpleNamespace(kept=kept)),
        lambda kept: kept.grad_fn,
        lambda kept: threading.Lock(),
        lambda kept: torch,
    ],
)
def test_what_a_network_keeps_is_no_hindrance(wrap: Callable[[Tensor], Any]) -> None:
    network = Keeps(wrap)
    images = torch.rand(1, 3, 16, 16)
    network(images)
    kept, expected = network.kept, network.eval()(images)
    network.kept = kept
    twin = frozen_copy(network)
    assert torch.allclose(twin(images), expected, atol=1e-6)
    assert network.kept is kept
    assert not any(parameter.requires_grad for parameter in twin.parameters())


def test_a_kept_activation_stays_with_the_network_it_is_of() -> None:
    network = Keeps(lambda kept: [kept])
    network(torch.rand(1, 3, 16, 16))
    before, kept = network.kept[0].detach().clone(), network.kept[0]  # type: ignore[index]
    twin = frozen_copy(network)
    twin.kept[0].zero_()  # type: ignore[index, operator]
    assert network.kept[0] is kept
    assert torch.equal(kept, before)
    assert kept.grad_fn is not None


def test_what_cannot_be_copied_is_named() -> None:
    network = conv_net()
    network[3].stream = (number for number in range(3))  # type: ignore[assignment]
    with pytest.raises(UserError, match="its layer '3' keeps generator in 'stream'"):
        plain_copy(network)
    with pytest.raises(UserError, match="lazy layers"):
        plain_copy(nn.LazyConv2d(4, 3))


def _by_closure(network: nn.Module) -> None:
    network.forward = lambda images: network[9](network[:9](images))  # type: ignore[operator, index, method-assign]


def _by_wrapping(network: nn.Module) -> None:
    old = network.forward
    network.forward = lambda images: 2 * old(images)  # type: ignore[method-assign]


def _by_default(network: nn.Module) -> None:
    network.forward = lambda images, layers=network: layers[:5](images)  # type: ignore[misc, method-assign]


def _by_list(network: nn.Module) -> None:
    network.ways = [lambda images: network[0](images)]  # type: ignore[assignment, operator, index]


def _by_hook(network: nn.Module) -> None:
    network[2].register_forward_hook(  # type: ignore[operator, index]
        lambda module, given, found: setattr(network, "kept", found)
    )


_GLOBAL = conv_net()


def _by_global(network: nn.Module) -> None:
    network.forward = lambda images: [_GLOBAL[number](images) for number in range(1)]  # type: ignore[method-assign]


@pytest.mark.parametrize("bind", [_by_closure, _by_wrapping, _by_default, _by_list, _by_hook, _by_global])
def test_a_function_that_would_run_the_network_itself_is_refused(bind: Callable[[nn.Module], None]) -> None:
    network = _GLOBAL if bind is _by_global else conv_net()
    bind(network)
    with pytest.raises(
        UserError, match=r"(it|its layer '2') keeps (a hook|a function in '\w+') that closes over the netw"
    ):
        plain_copy(network)


def _seen(store: list[Tensor], module: nn.Module, given: Any, found: Tensor) -> None:
    store.append(found)


def test_functions_that_are_bound_anew_run_the_copy() -> None:
    images, network = torch.rand(1, 3, 16, 16), conv_net()
    store: list[Tensor] = []
    network[2].register_forward_hook(partial(_seen, store))
    network[2].register_forward_hook(lambda module, given, found: store.append(found))
    network[3].register_forward_hook(SimpleNamespace(network=network, see=lambda *_: None).see)  # type: ignore[arg-type]
    network.forward = partial(nn.Sequential.forward, network)  # type: ignore[method-assign]
    network[0].forward = MethodType(nn.Conv2d.forward, network[0])  # type: ignore[method-assign]
    network[3].forward = network[3].forward  # type: ignore[method-assign]
    twin = plain_copy(network)
    before = twin(images)
    for parameter in network.parameters():
        parameter.data.add_(1)
    assert torch.equal(twin(images), before)
    plain_copy(torch.compile(conv_net(), backend="eager"))  # type: ignore[arg-type]  # whose copy binds itself anew


def _twice(module: nn.Module) -> nn.Module:
    prune.random_unstructured(weight_norm(module), "weight_v", 0.5)
    return prune.l1_unstructured(module, "bias", 0.5)


@pytest.mark.parametrize(
    "dress",
    [
        weight_norm,
        spectral_norm,
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
        lambda module: parametrizations.spectral_norm(parametrizations.weight_norm(module)),
        lambda module: prune.l1_unstructured(module, "weight", 0.3),
        _twice,
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_made_before_each_pass_are_plain_ones_of_the_copy(dress: Callable[..., nn.Module]) -> None:
    network = conv_net()
    network[3] = dress(network[3])
    network.train()(torch.rand(2, 3, 16, 16))  # which leaves kept weights behind, and spectral norm one iteration on
    state, kind, hooks = copy.deepcopy(network.state_dict()), type(network[3]), len(network[3]._forward_pre_hooks)
    images = torch.rand(2, 3, 32, 32)
    twin = frozen_copy(network)
    found = Trunk(Model.wrap(network, size=32, name="dressed"), ["5"])
    assert found.folded == 2
    assert sorted(name for name, _ in twin[3].named_parameters()) == ["bias", "weight"]  # type: ignore[index]
    assert not list(twin[3].buffers())
    assert type(twin[3]) is nn.Conv2d
    # The user's own is as it was, and still what it was.
    assert network.training
    assert type(network[3]) is kind
    assert len(network[3]._forward_pre_hooks) == hooks
    assert is_parametrized(network[3]) == hasattr(network[3], "parametrizations")
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    with torch.no_grad():
        expected = network.eval()(images)
    assert torch.allclose(twin(images), expected, atol=1e-6)


def test_a_plain_copy_keeps_what_can_be_trained() -> None:
    network = conv_net()
    network[0].weight.requires_grad_(False)
    network[3] = parametrizations.weight_norm(network[3])
    wanted = {"0.weight": False, "3.weight": True, "8.weight": True}
    assert {name: p.requires_grad for name, p in plain_copy(network).named_parameters() if name in wanted} == wanted


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_other_types_take_and_give_float32(dtype: torch.dtype) -> None:
    network = conv_net().eval()
    model = Model.wrap(copy.deepcopy(network).to(dtype), size=16)
    images, close = torch.rand(3, 3, 16, 16), {"atol": 1e-6 if dtype == torch.float64 else 0.05}
    expected = Trunk(Model.wrap(network, size=16), ["2", "output"])(images)
    seen = torch.float32 if dtype == torch.float16 else dtype  # a CPU runs half precision in float32
    entered: list[torch.dtype] = []
    trunk = Trunk(model, ["2", "output"])
    trunk.network[0].register_forward_pre_hook(  # type: ignore[index, union-attr, operator]
        lambda module, given: entered.append(given[0].dtype)
    )
    for name, maps in trunk(images).items():
        assert maps.dtype == torch.float32
        assert torch.allclose(maps, expected[name], **close)
    assert set(entered) == {seen}
    assert own_dtype(model.network) == dtype
    # All that looks at a network otherwise.
    effects = ClassEffects(model, "2", torch.zeros(8))(images, torch.zeros(3, 1, 2, dtype=torch.long))
    usual = ClassEffects(Model.wrap(network, size=16), "2", torch.zeros(8))
    assert torch.allclose(effects, usual(images, torch.zeros(3, 1, 2, dtype=torch.long)), **close)  # type: ignore[arg-type]
    assert find_classifier(model).name == "8"
    assert find_classifier(model).weight.dtype == torch.float32
    for maps in Target(model, Unit("output", 1)).maps("2", images):
        assert maps.dtype == torch.float32
    read = outputs_at(cpu_copy(model.network), images, ["2", "output"])
    assert [output.dtype for output in read.values()] == [torch.float32] * 2
    assert plain_copy(model.network)(images).dtype == torch.float32


def test_a_network_in_bfloat16_is_drawn() -> None:
    model = Model.wrap(conv_net().to(torch.bfloat16), size=16)
    assert featviz.maximize(model, "2:0", size=16, steps=1).scores.dtype == torch.float32
