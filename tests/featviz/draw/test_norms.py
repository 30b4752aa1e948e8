from __future__ import annotations

import torch
from torch import nn

from featviz import Model, maximize
from featviz.draw.norms import familiarity
from featviz.draw.objectives import Activations, channel
from featviz.network.trunk import Trunk


class _Block(nn.Module):
    """A wide norm and a narrow one at the same size of map, and one that nothing feeds."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.first = nn.Conv2d(3, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12)
        self.narrow, self.second = nn.Conv2d(12, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.idle = nn.BatchNorm2d(2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        wide = torch.relu(self.first(self.wide(images)))
        narrow: torch.Tensor = self.second(self.narrow(wide))
        return narrow


def _trained() -> Model:
    torch.manual_seed(0)
    network = _Block()
    with torch.no_grad():
        for norm in (network.first, network.second):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_()
    for _ in range(50):
        network(torch.randn(8, 3, 32, 32) * 0.2 + 0.3)
    return Model.wrap(network.eval(), size=32, mean=(0.0,) * 3, std=(1.0,) * 3)


def test_it_is_the_distance_from_what_the_narrowest_norms_remember() -> None:
    model = _trained()
    network = model.network
    prior = familiarity(model, ["second"])
    assert prior is not None
    assert prior.layers == ("second",)
    images = torch.rand(2, 3, 32, 32)
    found = prior(Activations(Trunk(model, prior.layers)(images), images, torch.arange(2)))
    with torch.no_grad():
        maps = network.narrow(torch.relu(network.first(network.wide(images))))  # type: ignore[operator]
        norm = network.second
        deviations = (norm.running_var + norm.eps).sqrt()  # type: ignore[operator]
        away = (maps.mean((2, 3)) - norm.running_mean) / deviations
    assert torch.allclose(found, -away.square().clamp(max=25).mean(1), rtol=1e-3)


def test_training_images_are_familiar_and_others_are_not() -> None:
    model = _trained()
    prior = familiarity(model, ["second"])
    assert prior is not None
    trunk = Trunk(model, prior.layers)
    known, strange = torch.randn(4, 3, 32, 32) * 0.2 + 0.3, torch.ones(4, 3, 32, 32)
    scores = [prior(Activations(trunk(images), images, torch.arange(4))).mean() for images in (known, strange)]
    assert scores[0] > -0.1
    assert scores[1] < -0.2


def test_a_network_that_remembers_nothing_has_none() -> None:
    plain = Model.wrap(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), size=16, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert familiarity(plain, ["0"]) is None


def test_the_network_is_given_back_as_it_was_and_pictures_get_more_familiar() -> None:
    model = _trained()
    model.network.train()
    prior = familiarity(model, ["second"])
    assert model.network.training
    assert not any(module._forward_hooks for module in model.network.modules())
    assert prior is not None
    model.network.eval()
    wish = channel("second", [0, 1])
    free, guided = (
        maximize(model, wish, size=32, steps=60, prior=each).images.float() / 255 for each in (None, 3 * prior)
    )
    trunk = Trunk(model, prior.layers)
    scores = [prior(Activations(trunk(images), images, torch.arange(2))) for images in (free, guided)]
    assert (scores[1] > scores[0]).all()
