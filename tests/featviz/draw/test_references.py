from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toys import conv_net, toy_model

from featviz.draw.maximize import maximize
from featviz.draw.objectives import Activations, channel
from featviz.draw.references import accentuation, caricature, inversion
from featviz.draw.transforms import Affine
from featviz.errors import UserError


def _images(count: int = 2) -> Tensor:
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 1)


def _maps(images: Tensor) -> Tensor:
    with torch.no_grad():
        return conv_net().eval()[:5]((images - 0.5) / 0.5)


def _seen(maps: Tensor, index: list[int]) -> Activations:
    return Activations({"4": maps}, torch.zeros(len(maps), 3, 32, 32), torch.tensor(index))


def test_inversion_is_one_less_the_relative_squared_distance() -> None:
    images, other = _images(), torch.rand(2, 3, 32, 32)
    target, h = _maps(images), _maps(other)
    scores = inversion(toy_model(), "4", images)(_seen(h, [1, 0]))
    expected = [
        1 - ((h[row] - target[picture]) ** 2).sum().item() / (target[picture] ** 2).sum().item()
        for row, picture in ((0, 1), (1, 0))
    ]
    assert scores.tolist() == pytest.approx(expected, rel=1e-4)
    assert inversion(toy_model(), "4", images)(_seen(target, [0, 1])).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("power", [0.0, 2.0])
def test_caricature_is_the_product_with_the_images_own_direction(power: float) -> None:
    images, other = _images(1), torch.rand(1, 3, 32, 32)
    target, h = _maps(images).flatten(), _maps(other).flatten()
    dot = (h @ target / target.norm()).item()
    cos = dot / h.norm().item()
    score = caricature(toy_model(), "4", images, power=power)(_seen(_maps(other), [0]))
    assert score.item() == pytest.approx(dot * max(cos, 0.1) ** power, rel=1e-4)


def test_accentuation_is_the_wish_plus_what_is_to_stay() -> None:
    model, images = toy_model(), _images()
    h = _maps(torch.rand(2, 3, 32, 32))
    wish, kept = channel("4", [0, 1]), inversion(model, "4", images)
    together = accentuation(wish, model, "4", images, strength=3)(_seen(h, [0, 1]))
    assert torch.allclose(together, wish(_seen(h, [0, 1])) + 3 * kept(_seen(h, [0, 1])))


def test_an_inverted_early_layer_gives_the_photograph_back() -> None:
    model, images = toy_model(), _images()
    made = maximize(model, inversion(model, "1", images), size=32, steps=300, lr=0.2, transform=Affine())
    assert made.clean.min() > 0.95
    assert (made.images / 255 - images).abs().mean() < 0.6 * (0.5 - images).abs().mean()


def test_a_caricature_climbs_and_an_accentuation_stays_near_its_start() -> None:
    model, images = toy_model(), _images()
    wish = caricature(model, "4", images)
    short, long = (maximize(model, wish, size=32, steps=n, transform=Affine()).clean for n in (1, 60))
    assert (long > short).all()
    drawn = {}
    for strength in (0.0, 30.0):
        kept = accentuation(channel("4", [2, 2]), model, "1", images, strength=strength)
        drawn[strength] = maximize(model, kept, size=32, steps=60, start=images, transform=Affine()).images / 255
    before = _maps(images)[:, 2].mean((1, 2))
    assert (_maps(drawn[30.0])[:, 2].mean((1, 2)) > before).all()
    assert (drawn[30.0] - images).abs().mean() < 0.5 * (drawn[0.0] - images).abs().mean()


def test_images_that_do_not_fit_are_named() -> None:
    with pytest.raises(UserError, match=r"\(pictures, 3, height, width\); got \(3, 32, 32\)"):
        inversion(toy_model(), "4", torch.rand(3, 32, 32))
    with pytest.raises(UserError, match="draw them with the images' size"):
        maximize(toy_model(), inversion(toy_model(), "4", _images()), size=48, steps=1)
