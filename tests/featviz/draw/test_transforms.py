from __future__ import annotations

import pytest
import torch
from torch import Tensor

from featviz.draw.transforms import Affine, Crop, Noise, Pad, at, chain, views
from featviz.seeds import generator_for


def _generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return [generator_for(seed, str(number)) for number in range(count)]


def _spot(row: int, column: int, size: tuple[int, int] = (33, 33)) -> Tensor:
    image = torch.zeros(1, 1, *size)
    image[0, 0, row, column] = 1
    return image


def test_nothing_asked_for_changes_nothing() -> None:
    images = torch.rand(2, 3, 16, 20)
    assert torch.allclose(Affine()(images, _generators(2)), images, atol=1e-5)


def test_each_image_gets_its_own_draw() -> None:
    image = torch.rand(1, 3, 32, 32)
    views = Affine(shift=5)(image.expand(4, -1, -1, -1), _generators(4))
    assert all(not torch.allclose(views[0], view, atol=1e-3) for view in views[1:])


def test_an_images_draw_does_not_depend_on_its_neighbours() -> None:
    images = torch.rand(3, 3, 32, 32)
    transform = Affine(shift=5, scale=(0.8, 1.2), degrees=20)
    among = transform(images, [generator_for(0, key) for key in "abc"])
    alone = transform(images[1:2], [generator_for(0, "b")])
    assert torch.allclose(among[1:2], alone, atol=1e-6)


def test_a_turned_spot_keeps_its_distance_from_the_centre_and_moves_by_the_drawn_angle() -> None:
    affine = Affine(degrees=90)
    matrix = affine.matrices(_generators(1), (33, 33))[0]
    turned = affine(_spot(16, 26), _generators(1))[0, 0]
    rows, columns = torch.meshgrid(torch.arange(33.0) - 16, torch.arange(33.0) - 16, indexing="ij")
    found = torch.stack([(turned * columns).sum(), (turned * rows).sum()]) / turned.sum()
    # The matrix leads from the output to the input, so the spot moves by its inverse.
    assert torch.allclose(found, torch.linalg.inv(matrix[:, :2]) @ torch.tensor([10.0, 0.0]), atol=0.1)
    assert found.norm() == pytest.approx(10, abs=0.1)


def test_shifts_reach_the_bound_and_no_further() -> None:
    matrices = Affine(shift=4).matrices(_generators(500), (32, 64))
    across, down = matrices[:, 0, 2] * 64 / 2, matrices[:, 1, 2] * 32 / 2
    for moves in (across, down):
        assert 3.9 < moves.abs().max() <= 4
        assert moves.mean().abs() < 0.5


def test_scales_span_the_range_uniformly_on_a_logarithmic_scale() -> None:
    matrices = Affine(scale=(0.5, 2.0)).matrices(_generators(500), (32, 32))
    scales = 1 / matrices[:, 0, 0]
    assert 0.5 <= scales.min() < 0.52
    assert 1.98 < scales.max() <= 2.0
    assert scales.log().mean() == pytest.approx(0, abs=0.06)
    assert (scales > 1).float().mean() == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("size", [(32, 32), (24, 48)])
def test_a_rotation_keeps_distances_on_images_that_are_not_square(size: tuple[int, int]) -> None:
    matrix = Affine(degrees=60).matrices(_generators(1), size)[0, :, :2]
    half = torch.tensor([size[1] / 2, size[0] / 2])
    in_pixels = half[:, None] * matrix / half[None]
    assert torch.allclose(in_pixels @ in_pixels.T, torch.eye(2), atol=1e-5)


def test_padding_and_cropping_undo_each_other() -> None:
    image = _spot(3, 7)
    padded = Pad(4, value=0.25)(image, [])
    assert padded.shape == (1, 1, 41, 41)
    assert padded[0, 0, 0, 0] == 0.25
    assert torch.equal(chain(Pad(4), Crop(4))(image, []), image)
    assert torch.equal(Crop(0)(image, []), image)


def test_gradients_reach_the_image() -> None:
    image = torch.rand(1, 3, 16, 16, requires_grad=True)
    Affine(shift=2, degrees=10)(image, _generators(1)).sum().backward()
    assert image.grad is not None
    assert (image.grad > 0).float().mean() > 0.7


def test_a_view_on_fewer_pixels_shows_the_whole_image() -> None:
    image = torch.linspace(0, 1, 56).expand(1, 1, 28, 56)
    small = Affine(share=0.5)(image, _generators(1))
    assert small.shape == (1, 1, 14, 28)
    assert torch.allclose(small[0, 0, 3], torch.linspace(0, 1, 28), atol=0.02)


def test_noise_is_of_a_strength_of_its_own_up_to_the_most() -> None:
    noisy = Noise(0.4)(torch.full((300, 1, 32, 32), 0.5), _generators(300))
    spreads = noisy.flatten(1).std(1)
    assert spreads.min() < 0.02
    assert 0.37 < spreads.max() < 0.43
    assert spreads.mean() == pytest.approx(0.2, abs=0.02)
    assert noisy.mean() == pytest.approx(0.5, abs=0.01)


def test_rising_noise_begins_with_nothing_and_other_noise_stays() -> None:
    image = torch.full((1, 1, 8, 8), 0.5)
    rising = views(8)
    assert torch.equal(at(Noise(0.4), 0.0)(image, _generators(1)), image)
    assert at(rising, 0.5) == chain(rising.transforms[0], Noise(0.2))
    assert at(Noise(0.4, rising=False), 0.5) == Noise(0.4, rising=False)
    assert at(Affine(shift=3), 0.5) == Affine(shift=3)


def test_an_images_noise_does_not_depend_on_its_neighbours() -> None:
    images = torch.rand(3, 3, 16, 16)
    among = Noise(0.3)(images, [generator_for(0, key) for key in "abc"])
    assert torch.equal(among[1:2], Noise(0.3)(images[1:2], [generator_for(0, "b")]))
