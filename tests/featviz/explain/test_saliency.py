from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toys import toy_model

from featviz.explain.saliency import deconvolution, guided_backpropagation, integrated_gradients, saliency
from featviz.explain.target import Target
from featviz.network.models import Model
from featviz.network.units import Unit


def _image(seed: int = 0, side: int = 32) -> Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))


class Pooled(nn.Module):
    """Two convolutions with a max pooling between: what a deconvolution has to find its way back through."""

    def __init__(self, act: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 4, 3, padding=1)
        self.pool, self.act, self.head = nn.MaxPool2d(2), act or nn.ReLU(), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.act(self.second(self.pool(self.act(self.first(images)))))
        scores: Tensor = self.head(maps.mean((2, 3)))
        return scores


def _pooled(act: nn.Module | None = None) -> Model:
    return Model.wrap(Pooled(act), size=16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), labels="xyz")


def test_saliency_is_the_largest_derivative_of_a_pixels_colours() -> None:
    model = toy_model()
    image = _image().requires_grad_()
    model.network.eval()(model.preprocess.normalize(image))[0, 1].backward()
    assert image.grad is not None
    found, _ = saliency(Target(model, Unit("output", 1)), image.detach())
    assert torch.allclose(found, image.grad[0].abs().amax(0), atol=1e-6)


def test_integrated_gradients_equal_a_loop_over_steps_and_captum() -> None:
    captum = pytest.importorskip("captum.attr")
    model, image = toy_model(), _image()
    found, note = integrated_gradients(Target(model, Unit("output", 2)), image, steps=20)
    slow = torch.zeros(32, 32)
    for step in range(20):
        at = (image * (step + 0.5) / 20).requires_grad_()
        model.network.eval()(model.preprocess.normalize(at))[0, 2].backward()
        assert at.grad is not None
        slow += (at.grad * image)[0].sum(0) / 20
    assert torch.allclose(found, slow, atol=1e-5)

    def network(images: Tensor) -> Tensor:
        result: Tensor = model.network.eval()(model.preprocess.normalize(images))
        return result

    theirs = captum.IntegratedGradients(network).attribute(image, target=2, n_steps=20, method="riemann_middle")
    assert torch.allclose(found, theirs[0].sum(0).float(), atol=1e-5)
    assert note.startswith("from black in 20 steps")


def test_of_a_linear_network_integrated_gradients_are_each_pixels_share() -> None:
    torch.manual_seed(0)
    head = nn.Linear(3 * 64, 2)
    model = Model.wrap(nn.Sequential(nn.Flatten(), head), size=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    image = _image(side=8)
    found, note = integrated_gradients(Target(model, Unit("output", 1)), image, steps=3)
    share = (head.weight[1].detach().reshape(3, 8, 8) * image[0] / 0.5).sum(0)
    assert torch.allclose(found, share, atol=1e-6)
    reached, whole = note.partition("steps: ")[2].split(" of the difference of ")
    assert reached == whole


def _sent_back(model: Model, image: Tensor, label: int, *, guided: bool) -> Tensor:
    """By hand: every layer's transpose, max pooling undone by its switches, negatives stopped at every ReLU."""
    network = model.network
    assert isinstance(network, Pooled)
    first = network.first(model.preprocess.normalize(image))
    pooled, switches = F.max_pool2d(first.relu(), 2, return_indices=True)
    second = network.second(pooled)
    weight = network.head.weight[label].detach()
    signal = weight[None, :, None, None].expand_as(second) / second[0, 0].numel()
    signal = signal.relu() * (second > 0) if guided else signal.relu()
    signal = F.conv_transpose2d(signal, network.second.weight, padding=1)
    signal = F.max_unpool2d(signal, switches, 2)
    signal = signal.relu() * (first > 0) if guided else signal.relu()
    signal = F.conv_transpose2d(signal, network.first.weight, padding=1)
    return (signal / torch.tensor(model.preprocess.std)[:, None, None]).detach()


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("act", [nn.ReLU(), nn.ReLU(inplace=True)])
def test_deconvolution_and_guided_backpropagation_equal_sending_the_signal_back_by_hand(
    guided: bool, act: nn.Module
) -> None:
    model, image = _pooled(act), _image(side=16)
    method = guided_backpropagation if guided else deconvolution
    found, note = method(Target(model, Unit("output", 2)), image)
    slow = _sent_back(_pooled(), image, 2, guided=guided)
    assert torch.allclose(found, slow[0].abs().amax(0), atol=1e-5)
    assert note == ""
    assert found.max() > 0


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_guided_backpropagation_and_deconvolution_agree_with_captum_where_it_sees_the_rectifiers() -> None:
    captum = pytest.importorskip("captum.attr")

    class Twice(Pooled):  # captum cannot hook a module that runs twice
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.ReLU()

        def forward(self, images: Tensor) -> Tensor:
            maps = self.other(self.second(self.pool(self.act(self.first(images)))))
            scores: Tensor = self.head(maps.mean((2, 3)))
            return scores

    model = Model.wrap(Twice().eval(), size=16, mean=(0.0,) * 3, std=(1.0,) * 3)
    image = _image(side=16)
    for ours, theirs in ((guided_backpropagation, captum.GuidedBackprop), (deconvolution, captum.Deconvolution)):
        found, _ = ours(Target(model, Unit("output", 1)), image)
        expected = theirs(Twice().eval()).attribute(image.clone().requires_grad_(), target=1)
        assert torch.allclose(found, expected[0].abs().amax(0).float(), atol=1e-6)


def test_of_a_channel_only_the_strongest_place_is_sent_back() -> None:
    model, image = _pooled(), _image(side=16)
    found, note = deconvolution(Target(model, Unit("second", 1)), image)
    network = model.network
    assert isinstance(network, Pooled)
    maps = network.second(network.pool(network.first(model.preprocess.normalize(image)).relu()))[0, 1]
    row, column = divmod(int(maps.argmax()), maps.shape[1])
    assert note.startswith(f"from the strongest place, ({row}, {column})")
    # Two 3 x 3 convolutions about a pooling: nothing farther away takes part.
    seen = found > 0
    rows, columns = seen.any(1).nonzero()[:, 0], seen.any(0).nonzero()[:, 0]
    assert rows.min() >= 2 * row - 3
    assert rows.max() <= 2 * row + 4
    assert columns.min() >= 2 * column - 3
    assert columns.max() <= 2 * column + 4


@pytest.mark.parametrize(
    ("act", "note"),
    [
        (nn.ReLU6(), ""),
        (nn.SiLU(), "silu treated as if it were a ReLU"),
        (nn.GELU(), "gelu treated as if it were a ReLU"),
        (nn.Tanh(), "the network has no rectifier: this is the plain derivative"),
    ],
)
def test_a_network_without_relu_says_what_was_done_instead(act: nn.Module, note: str) -> None:
    for method in (deconvolution, guided_backpropagation):
        found, said = method(Target(_pooled(act), Unit("output", 1)), _image(side=16))
        assert said.startswith(note)
        assert bool(said) == bool(note)
        assert found.max() > 0


def test_functional_rectifiers_are_seen_too() -> None:
    class Functional(Pooled):
        def forward(self, images: Tensor) -> Tensor:
            maps = torch.relu(self.second(self.pool(F.relu(self.first(images)))))
            scores: Tensor = self.head(maps.mean((2, 3)))
            return scores

    model, image = _pooled(), _image(side=16)
    other = Model.wrap(Functional(), size=16, mean=model.preprocess.mean, std=model.preprocess.std)
    for method in (deconvolution, guided_backpropagation):
        found = [method(Target(each, Unit("output", 0)), image)[0] for each in (model, other)]
        assert torch.equal(*found)


@pytest.mark.parametrize("guided", [True, False])
def test_on_a_real_network_of_relu6_both_equal_hooks_on_every_rectifier(lite0: Model, guided: bool) -> None:
    image = _image(side=224)
    network = copy.deepcopy(lite0.network).eval()
    gates: dict[nn.Module, Tensor] = {}

    def open_at(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        gates[module] = (given[0] > 0) & (given[0] < 6)

    def back(module: nn.Module, inwards: object, outwards: tuple[Tensor, ...]) -> tuple[Tensor]:
        passed = outwards[0].relu()
        return (passed * gates[module] if guided else passed,)

    rectifiers = [module for module in network.modules() if isinstance(module, nn.ReLU6)]
    assert len(rectifiers) > 20
    for module in rectifiers:
        module.inplace = False
        module.register_forward_hook(open_at)
        module.register_full_backward_hook(back)
    shown = image.clone().requires_grad_()
    network(lite0.preprocess.normalize(shown))[0, 7].backward()
    assert shown.grad is not None
    method = guided_backpropagation if guided else deconvolution
    found, note = method(Target(lite0, Unit("output", 7)), image)
    expected = shown.grad[0].abs().amax(0)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5 * float(expected.max()))
    assert note == ""
