from __future__ import annotations

import torch
from toys import toy_model

from featviz.draw.objectives import Activations, Objective, channel
from featviz.draw.robust import VIEWS, _as_jpeg, robust_score, robust_views, score
from featviz.network.trunk import Trunk


def _images(count: int, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 4, 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, (32, 40), mode="bilinear")


def test_every_image_is_looked_at_in_the_same_views_whatever_else_is() -> None:
    images = _images(3)
    twice = torch.cat([images[:1], images[:1], images[1:]])
    together, alone = robust_views(twice), robust_views(images[2:])
    assert len(together) == VIEWS
    for view, own in zip(together, alone, strict=True):
        assert torch.equal(view[0], view[1])
        assert torch.allclose(view[3], own[0], atol=1e-6)
        assert view.min() >= 0
        assert view.max() <= 1


def test_views_are_noisy_moved_and_unlike_each_other() -> None:
    grey = torch.full((1, 3, 32, 32), 0.5)
    spreads = [float(view.std()) for view in robust_views(grey)]
    assert min(spreads) > 0.03
    assert max(spreads) < 0.16
    left = torch.zeros(1, 1, 32, 32)
    left[..., :16] = 1
    assert len({round(float(view[..., 14:18].mean()), 3) for view in robust_views(left)}) == VIEWS


def test_networks_of_any_number_of_channels_are_served() -> None:
    for channels in (1, 2, 3, 4):
        assert all(view.shape == (2, channels, 32, 40) for view in robust_views(_images(2, channels)))


def test_the_score_is_the_mean_over_the_views_and_leaves_fine_texture_nothing() -> None:
    """An objective that sees every second pixel's sign: a checkerboard has all of it, and keeps none in other views."""
    board = ((torch.arange(32)[:, None] + torch.arange(32)[None]) % 2).float()
    wish = Objective((), lambda acts: ((acts.images - 0.5) * (board - 0.5)).mean((1, 2, 3)) * 4)
    trunk, picture = Trunk(toy_model(), []), (board * 255).to(torch.uint8).expand(1, 3, -1, -1)
    assert score(trunk, wish, picture, [0])[0] > 0.99
    assert robust_score(trunk, wish, picture, [0])[0] < 0.2
    expected = [wish(Activations({}, view, torch.zeros(1))) for view in robust_views(picture.float() / 255)]
    assert torch.allclose(robust_score(trunk, wish, picture, [0]), torch.stack(expected).mean(0))


def test_scores_do_not_depend_on_the_micro_batch() -> None:
    images = (_images(5) * 255).to(torch.uint8)
    trunk, wish = Trunk(toy_model(), ["4"]), channel("4", [0, 1, 2, 3, 4])
    small, large = (robust_score(trunk, wish, images, range(5), chunk=chunk) for chunk in (2, 8))
    assert torch.allclose(small, large, atol=1e-5)


def test_channels_come_back_from_one_file_as_from_a_file_each() -> None:
    images = torch.rand(3, 5, 21, 18)
    alone = [_as_jpeg(channel[None, None]) for channel in images.flatten(0, 1)]
    assert torch.equal(_as_jpeg(images), torch.cat(alone).reshape(images.shape))
