from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import timm
import torch
from torch import Tensor, nn
from torchcam import methods as torchcam
from toys import toy_model

from featviz.errors import UserError
from featviz.explain.cam import cam, grad_cam, grad_cam_pp, smooth_grad_cam_pp
from featviz.explain.target import Target
from featviz.network.classifier import find_classifier
from featviz.network.models import Model
from featviz.network.units import Unit


def _image(seed: int = 0, side: int = 32) -> Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))


def _by_hand(model: Model, layer: str, image: Tensor, label: int) -> tuple[Tensor, Tensor]:
    """A layer's maps and the logit's derivative by them: the layers run one after the other."""
    network = copy.deepcopy(model.network).eval()
    assert isinstance(network, nn.Sequential)
    for module in network:
        if isinstance(module, nn.ReLU):
            module.inplace = False
    maps = network[: int(layer) + 1](model.preprocess.normalize(image)).detach().requires_grad_()
    network[int(layer) + 1 :](maps)[0, label].backward()
    assert maps.grad is not None
    return maps.detach()[0], maps.grad[0]


def test_the_mean_of_a_class_activation_map_and_the_bias_are_the_logit(lite0: Model) -> None:
    image = _image(side=224)
    for model, shown in ((toy_model(), _image()), (lite0, image)):
        target = Target(model, Unit("output", 3))
        found, _ = cam(target, shown)
        bias = float(find_classifier(model).bias[3])
        assert float(found.mean()) + bias == pytest.approx(float(target.values(shown)), abs=1e-4)


@pytest.mark.parametrize("layer", ["2", "3", "5"])
def test_grad_cam_and_its_kin_equal_their_formulas_by_hand(layer: str) -> None:
    model, image = toy_model(), _image()
    target = Target(model, Unit("output", 1))
    maps, gradient = _by_hand(model, layer, image, 1)
    weights = torch.tensor([float(gradient[channel].mean()) for channel in range(len(maps))])
    expected = sum(weights[channel] * maps[channel] for channel in range(len(maps))).relu()  # type: ignore[union-attr]
    assert torch.allclose(grad_cam(target, image, layer=layer)[0], expected, atol=1e-6)
    expected = _plus_plus_by_hand(maps, gradient)
    assert torch.allclose(grad_cam_pp(target, image, layer=layer)[0], expected, rtol=1e-4, atol=1e-6)
    still, _ = smooth_grad_cam_pp(target, image, layer=layer, noise=0.0, samples=2)
    assert torch.allclose(still, grad_cam_pp(target, image, layer=layer)[0], rtol=1e-4, atol=1e-6)


def _plus_plus_by_hand(maps: Tensor, gradient: Tensor) -> Tensor:
    """In double precision, place by place."""
    maps, gradient = maps.double(), gradient.double()
    weights = torch.zeros(len(maps), dtype=torch.float64)
    for channel in range(len(maps)):
        cubes = float((gradient[channel] ** 3 * maps[channel].relu()).sum())
        for slope in gradient[channel].flatten().tolist():
            below = 2 * slope**2 + cubes
            weights[channel] += slope**2 / below * max(slope, 0) if below else 0
    return torch.einsum("chw,c->hw", maps, weights).relu().float()


@pytest.mark.parametrize("layer", ["blocks.1", "blocks.3"])
def test_grad_cam_pp_does_not_drown_where_derivatives_are_small(lite0: Model, layer: str) -> None:
    image = _image(side=224)
    target = Target(lite0, Unit("output", 7))
    maps, gradient = target.maps(layer, image)
    assert gradient.abs().mean() < 1e-3
    expected = _plus_plus_by_hand(maps[0], gradient[0])
    found, _ = grad_cam_pp(target, image, layer=layer)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * float(expected.max()))


@pytest.mark.parametrize(
    ("ours", "theirs"), [(cam, "CAM"), (grad_cam, "GradCAM"), (smooth_grad_cam_pp, "SmoothGradCAMpp")]
)
def test_torchcam_agrees_at_the_last_feature_map_of_a_real_network(lite0: Model, ours: object, theirs: str) -> None:
    image = _image(side=224)
    network = copy.deepcopy(lite0.network).eval()
    # torchcam adds 1e-8 to what it divides by: nothing beside derivatives a thousand times as large.
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(network.classifier, name).mul_(1000)  # type: ignore[union-attr]
    # Without noise, in which they cannot agree. (torchcam 0.5's GradCAMpp divides a copy, and so not at all.)
    still = {"samples": 2, "noise": 0.0} if ours is smooth_grad_cam_pp else {}
    found, _ = ours(Target(replace(lite0, network=network), Unit("output", 7)), image, **still)  # type: ignore[operator]
    options = {"CAM": {"fc_layer": "classifier"}, "SmoothGradCAMpp": {"num_samples": 2, "std": 1e-9}}.get(theirs, {})
    with getattr(torchcam, theirs)(network, "bn2.act", **options) as extractor:
        scores = network(lite0.preprocess.normalize(image).requires_grad_())
        (expected,) = extractor(7, scores, normalized=False)
    expected = expected[0].detach()
    if theirs == "CAM":
        expected, found = expected.relu(), found.relu()  # theirs keeps what is positive
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5 * float(expected.max()))


def test_of_a_neuron_each_place_counts_by_its_own_derivative() -> None:
    target, image = Target(toy_model(), Unit("3", 1, (2, 5))), _image()
    found, note = grad_cam(target, image, layer="3")
    assert found.nonzero().tolist() in ([], [[2, 5]])
    earlier, _ = grad_cam(target, image, layer="2")
    maps, gradients = target.maps("2", image)
    assert torch.allclose(earlier, (maps * gradients)[0].sum(0).relu(), atol=1e-7)
    assert "each place by its own derivative" in note


def test_against_a_class_cam_is_the_class_turned_round() -> None:
    image = _image()
    found = [cam(Target(toy_model(), Unit("output", 2, sign=sign)), image)[0] for sign in (1, -1)]
    assert torch.allclose(found[0], -found[1])


def test_noise_is_drawn_by_the_seed_and_averages_the_derivatives() -> None:
    target, image = Target(toy_model(), Unit("output", 1)), _image()
    one, again, other = (smooth_grad_cam_pp(target, image, layer="2", seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_the_last_map_is_the_last_that_the_unit_depends_on() -> None:
    assert Target(toy_model(), Unit("output", 1)).last_map in ("4", "5")
    assert Target(toy_model(), Unit("3", 1)).last_map == "3"
    flat = Model.wrap(nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 28 * 28, 3)), size=32)
    assert Target(flat, Unit("output", 1)).last_map == "1"


@pytest.mark.parametrize("name", ["test_vit", "swin_tiny_patch4_window7_224"])
def test_a_transformers_map_is_not_empty(name: str) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False).eval()
    side = network.default_cfg["input_size"][1]
    target = Target(Model.wrap(network, size=side), Unit("output", 3))
    for method in (grad_cam, grad_cam_pp):
        found, note = method(target, _image(side=side))
        assert found.isfinite().all()
        if method is grad_cam_pp:
            assert found.max() > 0, note
    with pytest.raises(UserError, match="does not depend on layer"):
        Target(toy_model(), Unit("3", 1)).maps("8", _image())


def test_of_a_network_that_ends_in_log_softmax_the_logit_is_explained() -> None:
    plain = toy_model()
    with_end = Model.wrap(
        nn.Sequential(*toy_model().network, nn.LogSoftmax(1)), size=32, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    image = _image()
    targets = [Target(model, Unit("output", 1)) for model in (plain, with_end)]
    assert torch.allclose(*(target.values(image) for target in targets), atol=1e-5)
    assert torch.allclose(*(target.gradients(image) for target in targets), atol=1e-6)
    probabilities = [target.probabilities(image) for target in targets]
    assert probabilities[0] is not None
    assert probabilities[1] is not None
    assert torch.allclose(probabilities[0], probabilities[1], atol=1e-5)


class _Scaled(nn.Module):
    """A convolution, and maps that a scale of 1 leaves as they are."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.scaled, self.head = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, eps=0.0), nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.scaled(self.first(images)).mean((2, 3)))
        return logits


def test_what_was_found_for_other_weights_or_another_head_is_looked_for_again() -> None:
    model, image = Model.wrap(_Scaled().eval(), size=32), _image()
    network = model.network
    assert isinstance(network, _Scaled)
    found, note = cam(Target(model, Unit("output", 1)), image)
    assert note == "at first"
    assert network.scaled.weight is not None
    with torch.no_grad():
        network.scaled.weight.mul_(3)
    tripled, note = cam(Target(model, Unit("output", 1)), image)
    assert note == "at scaled"
    assert torch.allclose(tripled, 3 * found, atol=1e-5)
    network.head = nn.Linear(5, 8)
    target = Target(model, Unit("output", 7))
    bias = float(network.head.bias[7].detach())
    assert float(cam(target, image)[0].mean()) + bias == pytest.approx(float(target.values(image)), abs=1e-5)
    with pytest.raises(UserError, match="has channels 0 to 7"):
        Target(model, Unit("output", 8))


def test_a_target_made_after_training_explains_the_trained_network() -> None:
    model, image = toy_model(), _image()
    before = [method(Target(model, Unit("output", 1)), image)[0] for method in (cam, grad_cam)]
    kept = Target(model, Unit("output", 1))
    with torch.no_grad():
        model.network.get_submodule("8").weight.mul_(2)  # type: ignore[operator, union-attr]
    for method, found in zip((cam, grad_cam), before, strict=True):
        assert torch.allclose(method(Target(model, Unit("output", 1)), image)[0], 2 * found, rtol=1e-4)
        assert torch.equal(method(kept, image)[0], found)
