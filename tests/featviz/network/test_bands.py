from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from featviz.errors import UserError
from featviz.explain.band_evidence import band_evidence
from featviz.explain.target import Target
from featviz.network.bands import visible
from featviz.network.layers import OUTPUT
from featviz.network.models import Model
from featviz.network.units import Unit


def _wrapped(channels: int = 4, **said: Any) -> Model:
    half = (0.5,) * channels
    return Model.wrap(nn.Conv2d(channels, 2, 3), size=8, mean=half, std=half, **said)


def test_bands_are_named_and_shown_by_name_or_number() -> None:
    how = _wrapped(
        bands=["blue", "green", "red", "infrared"], show=("infrared", 2, "green"), range=[0, 10000]
    ).preprocess
    assert how.bands == ("blue", "green", "red", "infrared")
    assert how.show == (3, 2, 1)
    assert how.range == (0.0, 10000.0)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"bands": ["a", "b"]}, "each of the 4 input channels; got 2"),
        ({"bands": "abcd"}, "a name for each"),
        ({"bands": ["a", "b", "b", "c"]}, "two bands are called 'b'"),
        ({"show": (0, 1)}, "one band .* or three"),
        ({"show": (0, 1, 4)}, "bands 0 to 3; got 4"),
        ({"show": ("red",)}, "no band has a name"),
        ({"bands": ["a", "b", "c", "d"], "show": ("e",)}, "no band 'e'; the closest are"),
        ({"range": (1, 0)}, "the smaller first"),
        ({"range": 3}, "the numbers that mean 0 and 1"),
    ],
)
def test_what_is_said_of_bands_has_to_fit(said: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        _wrapped(**said)


def test_a_reader_sees_three_bands_or_one() -> None:
    pictures = torch.arange(5).reshape(1, 5, 1, 1)
    assert visible(pictures).flatten().tolist() == [0, 1, 2]
    assert visible(pictures, (4, 0, 2)).flatten().tolist() == [4, 0, 2]
    assert visible(pictures[:, :2]).flatten().tolist() == [0]
    assert visible(pictures[:, :3]) is not None


class _Spectral(nn.Module):
    """Makes volumes of images by itself, as networks of many bands do."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, 2, 3)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.first(images[:, None]).flatten(1, 2)
        return found


def test_volumes_are_refused_and_networks_that_make_them_of_images_are_not() -> None:
    for volumes in (nn.Conv3d(3, 4, 3), nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU())):
        with pytest.raises(UserError, match="volumes or video"):
            Model.wrap(volumes, size=8)
    assert Model.wrap(_Spectral(), size=8, mean=(0.5,) * 7, std=(0.5,) * 7).preprocess.channels == 7


def test_the_evidence_lies_in_the_bands_that_the_network_reads() -> None:
    network = nn.Conv2d(4, 1, 1, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([0.0, 3.0, 1.0, -1.0]).reshape(1, 4, 1, 1))
    model = Model.wrap(network, size=8, mean=(0.5,) * 4, std=(0.25,) * 4)
    found = band_evidence(Target(model, Unit(OUTPUT, 0)), torch.full((4, 8, 8), 0.75))
    assert [round(band.drop, 5) for band in found] == [0, 3, 1, -1]
    assert [band.share for band in found] == pytest.approx([0, 0.75, 0.25, 0])
