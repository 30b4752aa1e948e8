from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torchcam import methods as torchcam
from toys import toy_model

from featviz.cam import cam, grad_cam, grad_cam_pp, smooth_grad_cam_pp
from featviz.classifier import find_classifier
from featviz.models import Model
from featviz.target import Target
from featviz.units import Unit


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
    weights = torch.zeros(len(maps))
    for channel in range(len(maps)):
        for row in range(maps.shape[1]):
            for column in range(maps.shape[2]):
                slope = float(gradient[channel, row, column])
                below = 2 * slope**2 + slope**3 * 0 + float((gradient[channel] ** 3 * maps[channel]).sum())
                weights[channel] += slope**2 / (below + 1e-8) * max(slope, 0) if slope else 0
    expected = sum(weights[channel] * maps[channel] for channel in range(len(maps))).relu()  # type: ignore[union-attr]
    assert torch.allclose(grad_cam_pp(target, image, layer=layer)[0], expected, atol=1e-5, rtol=1e-3)
    still, _ = smooth_grad_cam_pp(target, image, layer=layer, noise=0.0, samples=2)
    assert torch.allclose(still, grad_cam_pp(target, image, layer=layer)[0], atol=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(cam, "CAM"), (grad_cam, "GradCAM"), (smooth_grad_cam_pp, "SmoothGradCAMpp")]
)
def test_torchcam_agrees_at_the_last_feature_map_of_a_real_network(lite0: Model, ours: object, theirs: str) -> None:
    image = _image(side=224)
    # Without noise, in which they cannot agree. (torchcam 0.5's GradCAMpp divides a copy, and so not at all.)
    still = {"samples": 2, "noise": 0.0} if ours is smooth_grad_cam_pp else {}
    found, _ = ours(Target(lite0, Unit("output", 7)), image, **still)  # type: ignore[operator]
    network = copy.deepcopy(lite0.network).eval()
    options = {"CAM": {"fc_layer": "classifier"}, "SmoothGradCAMpp": {"num_samples": 2, "std": 1e-9}}.get(theirs, {})
    with getattr(torchcam, theirs)(network, "bn2.act", **options) as extractor:
        scores = network(lite0.preprocess.normalize(image).requires_grad_())
        (expected,) = extractor(7, scores, normalized=False)
    expected = expected[0].detach()
    if theirs == "CAM":
        expected, found = expected.relu(), found.relu()  # theirs keeps what is positive
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-4)


def test_noise_is_drawn_by_the_seed_and_averages_the_derivatives() -> None:
    target, image = Target(toy_model(), Unit("output", 1)), _image()
    one, again, other = (smooth_grad_cam_pp(target, image, layer="2", seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_the_last_map_is_read_before_a_flat_head_and_at_the_units_own_layer() -> None:
    assert Target(toy_model(), Unit("output", 1)).last_map == "5"
    assert Target(toy_model(), Unit("3", 1)).last_map == "3"
    flat = Model.wrap(nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 28 * 28, 3)), size=32)
    assert Target(flat, Unit("output", 1)).last_map == "1"
