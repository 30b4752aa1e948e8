from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from toys import toy_model

from featviz.errors import UserError
from featviz.network.classifier import feature_layer, find_classifier, without_classifier
from featviz.network.models import Model


def _wrapped(network: nn.Module, size: int = 64) -> Model:
    return Model.wrap(network.eval(), size=size)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: timm.create_model("test_resnet"), "fc"),
        (lambda: timm.create_model("test_vit", img_size=64), "head"),
        (lambda: timm.create_model("test_convnext"), "head.fc"),
        (lambda: timm.create_model("dpn48b", num_classes=50), "classifier"),  # a 1 x 1 convolution
        (lambda: torchvision.models.mobilenet_v3_small(num_classes=50), "classifier.3"),
        (lambda: torchvision.models.squeezenet1_1(num_classes=50), "classifier.1"),
        (lambda: torchvision.models.densenet121(num_classes=50), "classifier"),
    ],
)
def test_the_classifier_is_found_whatever_it_is_called(make: object, name: str) -> None:
    network = make()  # type: ignore[operator]
    found = find_classifier(_wrapped(network))
    assert found.name == name
    module = network.get_submodule(name)
    assert torch.equal(found.weight, module.weight.flatten(1))
    assert torch.equal(found.bias, module.bias)


def test_features_times_weights_are_the_logits_and_the_model_is_left_alone() -> None:
    model = toy_model()
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    found = find_classifier(model)
    assert (found.name, found.exact) == ("8", True)
    bare = without_classifier(model, found)
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        logits = bare.network(images) @ found.weight.T + found.bias
        assert torch.allclose(logits, model.network.eval()(images), atol=1e-6)
    assert all(torch.equal(value, before[key]) for key, value in model.network.state_dict().items())
    assert isinstance(model.network.get_submodule("8"), nn.Linear)


class _Scaled(nn.Module):
    """What comes out is twice what the linear layer gives."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(4), nn.Linear(48, 10)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.fc(self.pool(images).flatten(1)) * 2
        return result


def test_a_network_that_does_more_is_said_to() -> None:
    model = _wrapped(_Scaled(), 16)
    found = find_classifier(model)
    assert (found.name, found.exact) == ("fc", False)
    with pytest.raises(UserError, match="does more with fc"):
        without_classifier(model, found)


def test_a_network_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(UserError, match="no linear head"):
        find_classifier(_wrapped(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), 16))


def test_the_feature_layer_is_the_map_whose_means_the_classifier_gets(lite0: Model) -> None:
    assert feature_layer(toy_model(), find_classifier(toy_model())) == "5"
    layer = feature_layer(lite0, find_classifier(lite0))
    assert layer is not None
    assert layer.startswith("bn2")
    model = _wrapped(timm.create_model("test_vit", img_size=64))
    assert feature_layer(model, find_classifier(model)) is None  # a class token is no mean of a map
