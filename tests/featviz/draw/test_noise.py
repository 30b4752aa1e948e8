"""How much noise a network is drawn through: by a closed form, and on networks that see only the fine or the coarse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featviz.draw.drawing import Drawing
from featviz.draw.noise import correlation, noise_limit, pink
from featviz.draw.spectrum import slopes
from featviz.draw.superstimuli import draw
from featviz.network.models import Model
from featviz.network.trunk import Trunk
from featviz.network.units import Unit


def _model(network: nn.Module, channels: int = 3) -> Model:
    return Model.wrap(network, size=48, mean=(0.0,) * channels, std=(1.0,) * channels)


def _pink(count: int, channels: int, size: tuple[int, int]) -> Tensor:
    return pink(count, channels, size, torch.Generator().manual_seed(0))


def _limit(network: nn.Module, most: float = 0.4, channels: int = 3) -> float:
    return noise_limit(Trunk(_model(network, channels), ["0"]), "0", (48, 48), most=most)


class _Narrow(nn.Module):
    """Tells apart only shades within .02 of grey: what is no more than noise hides them."""

    def forward(self, images: Tensor) -> Tensor:
        return (0.02 - (images - 0.5).abs()).relu()


class _Coarse(nn.AvgPool2d):
    """Means of squares of eight pixels, in which noise cancels out."""

    def __init__(self) -> None:
        super().__init__(8)


def test_of_a_network_that_passes_means_on_the_limit_is_the_closed_form() -> None:
    images = _pink(128, 1, (21, 21))
    means = F.avg_pool2d(images, 3)
    spread = float((means - means.mean(0)).square().mean().sqrt())
    # The correlation of x and x + noise, of which the mean over nine pixels has a third.
    limits = [20 * 2 ** (-step / 2) for step in range(18)]
    expected = next(each for each in limits if spread / (spread**2 + (each / 2**0.5 / 3) ** 2) ** 0.5 >= 0.1)
    model = Model.wrap(nn.Sequential(nn.AvgPool2d(3)), size=21, mean=(0.0,), std=(1.0,))
    found = noise_limit(Trunk(model, ["0"]), "0", (21, 21), most=20.0)
    assert found == pytest.approx(expected)


def test_the_correlation_is_numpys_of_all_that_is_left_without_the_means() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(9, 4, generator=generator) for _ in range(2))
    both = [(each - each.mean(0)).flatten().numpy() for each in (one, other)]
    assert correlation(one, other) == pytest.approx(float(np.corrcoef(both)[0, 1]), abs=1e-6)
    assert correlation(one, torch.ones(9, 4)) == 0.0


def test_what_looks_at_means_bears_more_noise_than_what_looks_at_shades() -> None:
    assert _limit(nn.Sequential(_Coarse())) == 0.4
    assert _limit(nn.Sequential(_Narrow())) < 0.3


def test_a_layer_that_no_image_moves_says_nothing_of_noise() -> None:
    assert _limit(nn.Sequential(nn.Threshold(2.0, 0.0))) == 0.4


def test_pink_images_have_the_contrast_and_the_spectrum_of_photographs() -> None:
    images = _pink(16, 3, (64, 48))
    assert images.shape == (16, 3, 64, 48)
    assert images.min() >= 0 <= 1 - images.max()
    assert 0.2 < float(images.std()) < 0.28
    assert -1.2 < float(slopes(images).mean()) < -0.8
    assert torch.equal(images, _pink(16, 3, (64, 48)))


def test_superstimuli_of_what_noise_blinds_are_drawn_through_less_and_say_so() -> None:
    class Both(nn.Module):
        """A layer of each."""

        def __init__(self) -> None:
            super().__init__()
            self.coarse, self.narrow = _Coarse(), _Narrow()

        def forward(self, images: Tensor) -> Tensor:
            return torch.cat([self.coarse(images).mean((2, 3)), self.narrow(images).mean((2, 3))], 1)

    drawn = draw(_model(Both()), [Unit("coarse", 0), Unit("narrow", 0)], Drawing(steps=2))
    noise = [float(arrays["noise"]) for arrays in drawn.values()]
    assert noise[0] == pytest.approx(0.4)
    assert noise[1] < 0.3
