from __future__ import annotations

import copy
import shutil

import pytest
import timm
import torch
from torch import Tensor, nn
from toys import conv_net, toy_model

from featviz.errors import UserError
from featviz.network.models import Model
from featviz.network.trunk import Trunk


@pytest.mark.parametrize("layer", ["bn1", "bn1.act", "blocks.0.0.conv_dw", "blocks.1.0", "blocks.3", "blocks.6"])
def test_folding_changes_nothing_beyond_one_in_ten_thousand(lite0: Model, layer: str) -> None:
    images = torch.rand(2, 3, 128, 128)
    folded, plain = Trunk(lite0, [layer]), Trunk(lite0, [layer], fold=False)
    assert folded.folded > 0 or layer.startswith("bn1")
    expected = plain(images)[layer]
    assert (folded(images)[layer] - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_a_convolution_that_is_read_itself_is_not_folded() -> None:
    model = toy_model()
    images = torch.rand(1, 3, 32, 32)
    assert torch.allclose(Trunk(model, ["3"])(images)["3"], Trunk(model, ["3"], fold=False)(images)["3"], atol=1e-6)


class _ConvUsedTwice(nn.Module):
    """The convolution's output goes to the norm and, past it, to the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.end = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Identity()
        self.norm.running_mean = torch.full((4,), 2.0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        z: Tensor = self.end(self.norm(y) + y)
        return z


def test_a_convolution_used_elsewhere_too_is_not_folded() -> None:
    model = Model.wrap(_ConvUsedTwice(), size=16)
    trunk, images = Trunk(model, ["end"]), torch.rand(1, 3, 16, 16)
    assert trunk.folded == 0
    assert torch.allclose(trunk(images)["end"], Trunk(model, ["end"], fold=False)(images)["end"], atol=1e-6)


def test_the_users_network_is_left_as_it_was() -> None:
    network = conv_net().train()
    network[3].weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    Trunk(Model.wrap(network, size=32), ["5"])(images)["5"].sum().backward()
    assert network.training
    assert [parameter.requires_grad for parameter in network.parameters()].count(False) == 1
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_the_copy_shares_no_weight_buffer_or_hook_with_the_network_and_keeps_what_is_shared_within() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.norm, self.other = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3)
            self.other.weight = self.one.weight

        def forward(self, images: Tensor) -> Tensor:
            result: Tensor = self.other(self.norm(self.one(images)))
            return result

    network = Tied()
    calls: list[int] = []
    network.one.register_forward_hook(lambda *_: calls.append(1))
    twin = Trunk(Model.wrap(network, size=16), ["output"], fold=False).network
    calls.clear()
    assert isinstance(twin, Tied)
    assert twin.one.weight is twin.other.weight
    own = {tensor.data_ptr() for tensor in network.state_dict().values()}
    assert not own & {tensor.data_ptr() for tensor in twin.state_dict().values()}
    twin(torch.rand(1, 3, 16, 16))
    assert calls == [1]
    twin.norm.register_forward_hook(lambda *_: None)
    assert not network.norm._forward_hooks


def test_in_place_activations_do_not_corrupt_a_layer_read_before_them() -> None:
    model = toy_model()
    images = torch.rand(2, 3, 32, 32)
    both = Trunk(model, ["4", "5"])(images)
    assert torch.allclose(both["4"], Trunk(model, ["4"])(images)["4"])
    assert both["4"].min() < 0
    assert torch.allclose(both["4"].relu(), both["5"])


def test_a_network_of_fixed_size_gets_its_size_and_a_convolutional_one_the_images_own() -> None:
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=4)
    trunk = Trunk(Model.wrap(vit, size=224), ["blocks.1"])
    assert trunk(torch.rand(1, 3, 80, 80))["blocks.1"].shape == (1, 192, 14, 14)
    assert trunk.input_size((80, 80)) == (224, 224)
    assert Trunk(toy_model(), ["5"])(torch.rand(1, 3, 80, 48))["5"].shape[2:] == (20, 12)


def test_batches_give_what_single_images_give(lite0: Model) -> None:
    trunk, images = Trunk(lite0, ["blocks.2"]), torch.rand(5, 3, 96, 96)
    together = trunk(images)["blocks.2"]
    alone = torch.cat([trunk(image[None])["blocks.2"] for image in images])
    assert torch.allclose(together, alone, atol=1e-4)


def test_bfloat16_gives_float32_activations_near_those_of_float32(lite0: Model) -> None:
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    half = Trunk(lite0, ["blocks.2"], precision="bfloat16")(images)["blocks.2"]
    full = Trunk(lite0, ["blocks.2"])(images)["blocks.2"]
    assert half.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(half.flatten(), full.flatten(), dim=0) > 0.999
    assert not torch.equal(half, full)
    with pytest.raises(UserError, match="float32 or bfloat16"):
        Trunk(lite0, ["blocks.2"], precision="float8")  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_trunk_gives_the_same_activations_and_gradients() -> None:
    model = toy_model()
    results = []
    for compiled in (False, True):
        images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
        maps = Trunk(model, ["4"], compiled=compiled)(images)["4"]
        maps.square().mean().backward()
        results.append((maps.detach(), images.grad))
    for plain, compiled_result in zip(*results, strict=True):
        assert plain is not None
        assert compiled_result is not None
        assert torch.allclose(plain, compiled_result, atol=1e-5)


def test_no_layers_cost_no_pass() -> None:
    class Never(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise AssertionError("ran")

    assert Trunk(Model.wrap(Never()), [], fold=False)(torch.zeros(1, 3, 8, 8)) == {}
