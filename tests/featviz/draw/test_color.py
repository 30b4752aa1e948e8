from __future__ import annotations

import torch

from featviz.draw.color import from_rgb, to_rgb


def test_from_rgb_undoes_to_rgb() -> None:
    images = torch.randn(2, 3, 4, 5)
    assert torch.allclose(from_rgb(to_rgb(images)), images, atol=1e-5)


def test_the_first_coordinate_is_light_and_the_others_leave_light_almost_alone() -> None:
    rgb = to_rgb(torch.eye(3).view(3, 3, 1, 1)).flatten(1)
    assert (rgb[0] > 0.5).all()
    assert rgb[1:].mean(1).abs().max() < 0.05


def test_other_numbers_of_channels_pass_unchanged() -> None:
    images = torch.randn(1, 5, 2, 2)
    assert torch.equal(to_rgb(images), images)
    assert torch.equal(from_rgb(images), images)
