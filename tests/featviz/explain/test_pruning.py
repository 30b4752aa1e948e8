from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import Tensor, nn
from toys import toy_model

from featviz.errors import UserError
from featviz.explain.pruning import copies, evidence, prune
from featviz.network.models import Model


class Chain(nn.Module):
    """Two convolutions whose maps are flattened: each channel is nine inputs of the linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first, self.second = nn.Conv2d(1, 5, 3, padding=1), nn.Conv2d(5, 6, 3, padding=1)
        self.head = nn.Linear(6 * 9, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = torch.max_pool2d(self.first(images).relu(), 2)
        maps = torch.max_pool2d(self.second(maps).relu(), 2)
        result: Tensor = self.head(maps.flatten(1))
        return result


def _chain(network: nn.Module | None = None) -> Model:
    return Model.wrap(network or Chain(), size=12, mean=(0.2,), std=(0.5,))


def _digits(count: int = 6, side: int = 12) -> Tensor:
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("layer", "keep"), [("first", [0, 3]), ("second", [1, 2, 5])])
def test_a_pruned_network_answers_as_one_whose_next_layer_does_not_look_at_those_channels(
    layer: str, keep: list[int]
) -> None:
    model = _chain()
    smaller = prune(model, layer, keep)
    blind = copy.deepcopy(model.network)
    assert isinstance(blind, Chain)
    with torch.no_grad():
        for channel in set(range(5 if layer == "first" else 6)) - set(keep):
            if layer == "first":
                blind.second.weight[:, channel] = 0
            else:
                blind.head.weight[:, channel * 9 : (channel + 1) * 9] = 0
    images = _digits()
    assert torch.allclose(smaller.network(images), blind(images), atol=1e-6)
    assert smaller.network.get_submodule(layer).out_channels == len(keep)
    assert model.network.get_submodule(layer).out_channels in (5, 6)
    assert sum(value.numel() for value in smaller.network.parameters()) < sum(v.numel() for v in blind.parameters())


def test_norms_behind_a_convolution_are_pruned_with_it() -> None:
    model = toy_model()
    smaller = prune(model, "0", [1, 4, 6])
    images = torch.rand(3, 3, 32, 32)
    whole = copy.deepcopy(model.network).eval()
    reader = whole.get_submodule("3")
    assert isinstance(reader, nn.Conv2d)
    with torch.no_grad():
        reader.weight[:, [0, 2, 3, 5, 7]] = 0
    assert torch.allclose(smaller.network(images), whole(images), atol=1e-5)
    assert smaller.network.get_submodule("1").num_features == 3


def test_what_is_no_chain_is_refused_and_the_network_stays_as_it_was() -> None:
    resnet = Model.wrap(timm.create_model("resnet18", pretrained=False).eval(), size=64)
    before = {name: value.clone() for name, value in resnet.network.state_dict().items()}
    with pytest.raises(UserError, match="only chains can be pruned"):
        prune(resnet, "layer1.0.conv2", range(30))
    assert all(torch.equal(value, before[name]) for name, value in resnet.network.state_dict().items())
    with pytest.raises(UserError, match="no convolution of all its inputs, but ReLU"):
        prune(toy_model(), "2", [0])
    with pytest.raises(UserError, match="has channels 0 to 7"):
        prune(toy_model(), "0", [3, 8])


def test_evidence_tells_a_pattern_from_noise_and_a_dead_channel_from_both() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 7, padding=3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 144, 2))
    convolution = network[0]
    assert isinstance(convolution, nn.Conv2d)
    wave = torch.sin(torch.arange(7) / 7 * 2 * torch.pi)
    with torch.no_grad():
        convolution.weight[0, 0] = wave[:, None].expand(7, 7) * 0.2
        convolution.weight[1, 0] = torch.randn(7, 7) * 0.2
        convolution.weight[2] = 0
        convolution.bias.zero_()
    found = evidence(_chain(network), "0", _digits(8), steps=4)
    assert found.pattern[0] > 0.5
    assert abs(float(found.pattern[1])) < 0.35
    assert found.variation[2] == 0
    assert found.ranks[0] > found.ranks[2]
    maps = convolution((_digits(8) - 0.2) / 0.5).detach()
    assert torch.allclose(found.variation, maps.transpose(0, 1).flatten(1).std(1), atol=1e-5)
    most = maps.relu().amax((2, 3))[:, 0].double()
    assert found.selective[0] == pytest.approx(1 - float(most.mean() ** 2 / (most**2).mean()), abs=1e-4)


def test_a_convolution_that_hands_on_its_inputs_is_found_to_copy() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.Flatten(),
                            nn.Linear(4 * 144, 2))  # fmt: skip
    second = network[2]
    assert isinstance(second, nn.Conv2d)
    torch.manual_seed(1)
    with torch.no_grad():
        second.weight[:3] = 0
        for channel in range(3):
            second.weight[channel, (channel + 1) % 4, 1, 1] = -2.0 if channel else 1.5
        second.weight[3] = torch.randn(4, 3, 3)
    found = copies(_chain(network), "2", _digits(10))
    assert found[:3].tolist() == pytest.approx([1.0, 1.0, 1.0], abs=1e-4)
    assert found[3] < 0.9
    with pytest.raises(UserError, match="it copies none"):
        copies(toy_model(), "3", torch.rand(2, 3, 32, 32))
