from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn
from toys import toy_model

from featviz.classifier import find_classifier
from featviz.effects import ClassEffects
from featviz.errors import UserError
from featviz.layers import OUTPUT
from featviz.models import Model
from featviz.trunk import Trunk
from search.decode import central_view
from search.images import open_images


def _by_backward(found: ClassEffects, images: Tensor, positions: Tensor, label: int) -> Tensor:
    """One class, by autograd on the same network, read at the layer by hand: h . dlogit / dh."""
    kept: list[Tensor] = []

    def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[0].clone()

    handle = found.trunk.network.get_submodule(found.layer).register_forward_hook(hook)
    logits = found.trunk.network(found.trunk.preprocess.normalize(images))
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[:, label].sum(), kept[0])
    product = found._layout.maps(gradient * kept[0].detach())
    return product[torch.arange(len(images)), :, positions[:, 0], positions[:, 1]].sum(1)


def _check(model: Model, layer: str, *, count: int = 5, pairs: int = 10, seed: int = 0) -> ClassEffects:
    generator = torch.Generator().manual_seed(seed)
    found = ClassEffects(model, layer)
    _, rows, columns = found.trunk.map_size(layer)
    images = torch.rand(count, model.preprocess.channels, *model.preprocess.size, generator=generator)
    positions = torch.stack([torch.randint(limit, (count,), generator=generator) for limit in (rows, columns)], 1)
    effects = found(images, positions[:, None])[:, 0]
    assert effects.shape == (count, found.classes)
    for label in torch.randint(found.classes, (pairs,), generator=generator).tolist():
        assert torch.allclose(effects[:, label], _by_backward(found, images, positions, label), atol=1e-5, rtol=1e-5)
    return found


@pytest.mark.parametrize("layer", ["blocks.3", "blocks.5", "blocks.6"])
def test_on_the_real_network_effects_equal_one_backward_pass_per_class(lite0: Model, layer: str) -> None:
    assert _check(lite0, layer)._forward


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
    _check(Model.wrap(network.eval(), size=size), layer, count=2, pairs=4)


def test_reverse_mode_gives_the_same(lite0: Model) -> None:
    found = ClassEffects(lite0, "blocks.5")
    images, positions = torch.rand(2, 3, 224, 224), torch.tensor([[1, 2], [3, 4]])
    forward = found(images, positions[:, None])
    found._forward = False
    assert torch.allclose(found(images, positions[:, None]), forward, atol=1e-5)


class _NoForward(torch.autograd.Function):
    """Doubling, without a forward derivative."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:  # noqa: ARG004  (torch fixes the arguments)
        return values * 2

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        return gradients[0] * 2


class _Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3, 2, 1), nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        doubled: Tensor = _NoForward.apply(self.conv(images))  # type: ignore[no-untyped-call]
        result: Tensor = self.fc(doubled.relu().mean((2, 3)))
        return result


def test_an_operation_without_a_forward_derivative_is_differentiated_in_reverse() -> None:
    torch.manual_seed(0)
    found = _check(Model.wrap(_Odd().eval(), size=16), "conv", pairs=4)
    assert not found._forward


@pytest.mark.parametrize("layer", ["1", "3", "inside.conv"])
def test_several_positions_of_an_image_are_each_its_own(layer: str) -> None:
    model = toy_model() if layer != "inside.conv" else Model.wrap(_Skipping().eval(), size=32)
    found = ClassEffects(model, layer)
    images = torch.rand(3, 3, 32, 32)
    positions = torch.tensor([[[0, 1], [2, 3]], [[4, 4], [5, 0]], [[7, 7], [1, 1]]])
    effects = found(images, positions)
    for number in range(3):
        for place in range(2):
            alone = found(images[number : number + 1], positions[number : number + 1, place : place + 1])
            assert torch.allclose(effects[number, place], alone[0, 0], atol=1e-6)
    assert found._inside == (layer == "inside.conv")
    with torch.inference_mode():  # as a scan calls it
        assert torch.allclose(found(images, positions), effects)


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


def test_at_the_last_feature_map_effects_and_bias_add_up_to_the_logits() -> None:
    model = toy_model()
    found, images = ClassEffects(model, "5"), torch.rand(1, 3, 32, 32)
    places = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    total = found(images, places[None])[0].sum(0) + find_classifier(model).bias
    with torch.inference_mode():
        logits = Trunk(model, ["output"])(images)["output"][0, :, 0, 0]
    assert torch.allclose(total, logits, atol=1e-5)


def test_where_logits_are_linear_the_prediction_is_what_happens() -> None:
    found = ClassEffects(toy_model(), "5")
    images, positions = torch.rand(3, 3, 32, 32), torch.tensor([[0, 0], [3, 4], [7, 7]])
    predicted, measured = found.linearity(images, positions)
    assert torch.allclose(predicted, measured, atol=1e-5)
    assert predicted.abs().max() > 1e-4


def test_networks_without_classes_are_refused() -> None:
    with pytest.raises(UserError, match="no logits of classes"):
        ClassEffects(Model.wrap(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), size=16), "0")
    with pytest.raises(UserError, match="before the output"):
        ClassEffects(toy_model(), "output")
    with pytest.raises(UserError, match="no layer '77'"):
        ClassEffects(toy_model(), "77")


@pytest.mark.parametrize(("layer", "forward"), [("1", True), ("1", False), ("4", True)])
def test_the_sum_over_positions_by_one_pass_equals_adding_up_every_position(layer: str, forward: bool) -> None:
    found = ClassEffects(toy_model(), layer, channels=[0, 2, 5])
    found._forward = forward
    _, rows, columns = found.trunk.map_size(layer)
    every = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))[None]
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    summed = found.summed(images)
    assert summed.abs().max() > 1e-3
    assert torch.allclose(summed, found(images, every.expand(2, -1, -1)).sum(1), atol=1e-5)


@pytest.mark.slow
def test_the_class_that_an_image_is_rightly_taken_for_has_the_largest_summed_effect_for_nine_in_ten(
    lite0: Model, image_sample: Path
) -> None:
    images = open_images(image_sample)
    found = ClassEffects(lite0, "blocks.6")
    right = largest = 0
    for start in range(0, len(images), 25):
        numbers = range(start, min(start + 25, len(images)))
        views = torch.stack([central_view(images.open(number), lite0.preprocess) for number in numbers])
        labels = torch.tensor([images.labels[number] for number in numbers])
        kept = found.trunk(views)[OUTPUT].flatten(1).argmax(1) == labels
        right += int(kept.sum())
        largest += int((found.summed(views[kept]).argmax(1) == labels[kept]).sum())
    assert right > 300
    assert largest / right >= 0.9


@pytest.mark.parametrize("layer", ["blocks.5", "blocks.6"])
def test_effects_of_some_channels_equal_autograd_over_those_and_those_of_all_are_their_sum(
    lite0: Model, layer: str
) -> None:
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([[[1, 2], [3, 3]], [[0, 0], [6, 5]]])
    channels, _, _ = ClassEffects(lite0, layer).trunk.map_size(layer)
    whole = ClassEffects(lite0, layer)(images, positions)
    parts = [ClassEffects(lite0, layer, channels=range(start, channels, 2))(images, positions) for start in (0, 1)]
    assert torch.allclose(parts[0] + parts[1], whole, atol=1e-5)
    assert (parts[0] - whole).abs().max() > 1e-2
    with pytest.raises(UserError, match=f"0 to {channels - 1}"):
        ClassEffects(lite0, layer, channels=[channels])
