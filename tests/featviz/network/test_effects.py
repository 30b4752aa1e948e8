from __future__ import annotations

from collections.abc import Sequence

import pytest
import timm
import torch
from torch import Tensor, nn
from toys import toy_model

from featviz.errors import UserError
from featviz.network.classifier import find_classifier
from featviz.network.effects import ClassEffects, class_effects, usual_activation
from featviz.network.models import Model


def _by_hand(found: ClassEffects, image: Tensor, row: int, column: int) -> Tensor:
    """The logits of one image less those with one position replaced, by a plain hook on the same network."""

    def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        changed = output.clone()
        maps = found._layout.maps(changed)
        for channel, value in zip(found.channels.tolist(), found.usual.tolist(), strict=True):
            maps[0, channel, row, column] = value
        return changed

    network, normalized = found.trunk.network, found.trunk.preprocess.normalize(image[None])
    with torch.inference_mode():
        before = network(normalized)
        handle = network.get_submodule(found.layer).register_forward_hook(hook)
        after = network(normalized)
        handle.remove()
    result: Tensor = (before - after)[0]
    return result


def _check(model: Model, layer: str, *, channels: Sequence[int] | None = None, count: int = 3) -> ClassEffects:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, model.preprocess.channels, *model.preprocess.size, generator=generator)
    found = ClassEffects(model, layer, usual_activation(model, layer, images), channels=channels)
    _, rows, columns = found.trunk.map_size(layer)
    positions = torch.stack([torch.randint(limit, (count, 2), generator=generator) for limit in (rows, columns)], 2)
    effects = found(images, positions)
    assert effects.shape == (count, 2, found.classes)
    assert effects.abs().max() > 1e-6
    for number in range(count):
        for place, (row, column) in enumerate(positions[number].tolist()):
            wanted = _by_hand(found, images[number], row, column)
            assert torch.allclose(effects[number, place], wanted, atol=2e-5, rtol=1e-4)
    with torch.inference_mode():  # as a scan calls it
        assert torch.allclose(found(images, positions), effects)
    return found


@pytest.mark.parametrize("layer", ["blocks.3", "blocks.5", "blocks.6"])
def test_on_the_real_network_effects_are_what_replacing_a_position_by_hand_does(lite0: Model, layer: str) -> None:
    assert not _check(lite0, layer)._inside


@pytest.mark.parametrize(
    ("name", "layer", "size"),
    [
        ("test_vit", "blocks.2", 64),
        ("swin_tiny_patch4_window7_224", "layers.2", 224),
        ("test_resnet", "layer2", 64),
        ("test_convnext", "stages.1", 64),
    ],
)
def test_on_other_architectures_too(name: str, layer: str, size: int) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, img_size=size) if "vit" in name or "swin" in name else timm.create_model(name)
    _check(Model.wrap(network.eval(), size=size), layer, count=2)


@pytest.mark.parametrize("layer", ["1", "3", "inside.conv"])
def test_several_positions_of_an_image_are_each_its_own(layer: str) -> None:
    model = toy_model() if layer != "inside.conv" else Model.wrap(_Skipping().eval(), size=32)
    found = _check(model, layer)
    assert found._inside == (layer == "inside.conv")
    assert torch.allclose(_check(model, layer, channels=[0, 2, 5]).usual, found.usual[[0, 2, 5]])


class _Skipping(nn.Module):
    """A residual block: what follows the layer takes from before it, too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.inside = nn.ModuleDict({"conv": nn.Conv2d(6, 6, 3, 1, 1)})
        self.fc = nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stem(images)
        result: Tensor = self.fc((maps + self.inside["conv"](maps)).relu().mean((2, 3)))
        return result


def test_at_the_last_feature_map_an_effect_is_the_weights_of_what_is_unusual() -> None:
    model = toy_model()
    images = torch.rand(2, 3, 32, 32)
    usual = usual_activation(model, "5", images)
    found = ClassEffects(model, "5", usual)
    every = torch.cartesian_prod(torch.arange(8), torch.arange(8))[None].expand(2, -1, -1)
    with torch.inference_mode():
        maps = found.trunk(images)["5"]
    wanted = (maps.flatten(2).transpose(1, 2) - usual) @ find_classifier(model).weight.T / 64
    assert torch.allclose(found(images, every), wanted, atol=1e-5)
    assert torch.allclose(usual, maps.mean((0, 2, 3)), atol=1e-6)


def test_where_the_usual_activation_stands_nothing_changes() -> None:
    model = toy_model()
    images = torch.rand(1, 3, 32, 32)
    found = ClassEffects(model, "1", torch.zeros(8))
    with torch.inference_mode():
        here = found.trunk(images)["1"][0, :, 3, 4]
    assert ClassEffects(model, "1", here)(images, torch.tensor([[[3, 4]]])).abs().max() < 1e-6


def test_networks_without_classes_and_what_does_not_fit_are_refused() -> None:
    plain = Model.wrap(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), size=16)
    with pytest.raises(UserError, match="no logits of classes"):
        ClassEffects(plain, "0", torch.zeros(4))
    assert class_effects(plain, "0", torch.zeros(4)) is None
    with pytest.raises(UserError, match="before the output"):
        ClassEffects(toy_model(), "output", torch.zeros(4))
    with pytest.raises(UserError, match="no layer '77'"):
        ClassEffects(toy_model(), "77", torch.zeros(4))
    with pytest.raises(UserError, match="0 to 7"):
        ClassEffects(toy_model(), "1", torch.zeros(8), channels=[8])
    with pytest.raises(UserError, match="has 8 channels; the usual activation has"):
        ClassEffects(toy_model(), "1", torch.zeros(3))
