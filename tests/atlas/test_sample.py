from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys import Positions, noise_folder, toy_model

from atlas.sample import Revisitor, Sampler, check_spatial, inner_positions, revisit, sample
from featviz.errors import UserError
from featviz.network.models import Model
from featviz.network.trunk import Trunk
from search.images.images import open_images
from search.scan.scan import Batch


def _batch(maps: Tensor, index: list[int], view: list[int] | None = None) -> Batch:
    n = len(maps)
    return Batch(
        {"x": maps},
        torch.tensor(index),
        torch.tensor(view or [0] * n),
        torch.full((n,), -1),
        torch.zeros(n, 4),
        torch.zeros(n, 3, 8, 8),
    )


@pytest.mark.parametrize(("layout", "prefix"), [("nchw", 0), ("nhwc", 0), ("tokens", 0), ("tokens", 3)])
def test_a_vector_is_the_one_at_its_position_in_every_layout(noise_images: Path, layout: str, prefix: int) -> None:
    network = Positions(5, 7, layout=layout, prefix=prefix)
    model = Model.wrap(network, size=(40, 56))
    found, _, _ = sample(model, "encode", open_images(noise_images), samples=200, per_image=8)
    assert np.array_equal(found.vectors[:, :2], found.position)
    assert found.position.min() == 1
    assert found.position[:, 0].max() == 3
    assert found.position[:, 1].max() == 5


def test_a_vector_belongs_to_its_image(noise_images: Path) -> None:
    model = Model.wrap(Positions(4, 4), size=32)
    images = open_images(noise_images)
    found, scanned, bad = sample(model, "encode", images, samples=48, per_image=2)
    assert (len(found.vectors), scanned.views, bad) == (48, 24, 0)
    brightness = {}
    for number in set(found.image.tolist()):
        values = found.vectors[found.image == number, 2]
        assert np.ptp(values) == 0
        brightness[number] = values[0]
    assert len(set(brightness.values())) == len(images)


def test_positions_are_uniform_over_the_inside() -> None:
    sampler = Sampler("x", per_image=1)
    maps = torch.zeros(4000, 1, 5, 6)
    sampler.update(_batch(maps, list(range(4000))))
    rows, columns = sampler.state()["position"].T
    counts = torch.bincount(rows * 6 + columns, minlength=30).reshape(5, 6)
    assert counts[1:-1, 1:-1].sum() == 4000
    expected = 4000 / 12
    chi_squared = ((counts[1:-1, 1:-1] - expected) ** 2 / expected).sum()
    assert chi_squared < 31.3  # 99.9th percentile for 11 degrees of freedom


@pytest.mark.parametrize(("rows", "columns", "count"), [(5, 5, 9), (3, 4, 2), (3, 3, 1), (2, 5, 10), (1, 1, 1)])
def test_the_border_is_left_out_where_there_is_an_inside(rows: int, columns: int, count: int) -> None:
    assert len(inner_positions(rows, columns)) == count


def test_no_position_is_drawn_twice_in_a_view() -> None:
    sampler = Sampler("x", per_image=100)
    sampler.update(_batch(torch.zeros(3, 1, 5, 5), [0, 1, 2]))
    positions = sampler.state()["position"].reshape(3, 9, 2)
    assert all(len(set(map(tuple, view.tolist()))) == 9 for view in positions)


def test_batches_in_any_order_and_merged_samplers_give_the_same_state() -> None:
    maps = torch.randn(12, 4, 5, 5)
    index, view = [number // 2 for number in range(12)], [number % 2 for number in range(12)]
    whole = Sampler("x", per_image=3, seed=7)
    whole.update(_batch(maps, index, view))
    early, late = Sampler("x", per_image=3, seed=7), Sampler("x", per_image=3, seed=7)
    for number in (11, 3, 7, 0, 9, 5):
        late.update(_batch(maps[number : number + 1], [index[number]], [view[number]]))
    for number in (8, 1, 10, 2, 6, 4):
        early.update(_batch(maps[number : number + 1], [index[number]], [view[number]]))
    resumed = Sampler("x", per_image=3, seed=7)
    resumed.load(late.state())
    resumed.merge(early)
    expected, found = whole.state(), resumed.state()
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_vectors_with_nan_or_infinity_are_counted_and_left_out() -> None:
    maps = torch.zeros(3, 2, 3, 3)
    maps[0, 1], maps[2, 0] = torch.nan, torch.inf
    sampler = Sampler("x")
    sampler.update(_batch(maps, [0, 1, 2]))
    assert sampler.bad == 2
    assert sampler.state()["image"].tolist() == [1]


def test_another_seed_draws_other_positions_and_the_same_seed_the_same(noise_images: Path) -> None:
    model, images = toy_model(), open_images(noise_images)
    first, again, other = (sample(model, "4", images, samples=96, per_image=2, seed=seed)[0] for seed in (0, 0, 1))
    assert np.array_equal(first.vectors, again.vectors)
    assert not np.array_equal(first.position, other.position)


def test_few_images_are_shown_in_several_views_and_many_are_chosen_from(tmp_path: Path) -> None:
    model = toy_model()
    few = open_images(noise_folder(tmp_path / "few", 3))
    found, scanned, _ = sample(model, "4", few, samples=60, per_image=4)
    assert (scanned.images, scanned.views, len(found.vectors)) == (3, 15, 60)
    assert len(np.unique(found.box, axis=0)) > 3
    many = open_images(noise_folder(tmp_path / "many", 30))
    found, scanned, _ = sample(model, "4", many, samples=20, per_image=2)
    assert (scanned.images, scanned.views, len(found.vectors)) == (10, 10, 20)
    assert len(set(found.image.tolist())) == 10


def test_a_layer_of_one_position_says_so_and_is_sampled_once_a_view(noise_images: Path) -> None:
    with pytest.raises(UserError, match="layer '6' has no spatial positions"):
        check_spatial(Trunk(toy_model(), ["6"]), "6")
    found, scanned, _ = sample(toy_model(), "6", open_images(noise_images), samples=24, per_image=8)
    assert len(found) == scanned.views == 24
    assert (found.position == 0).all()


def test_a_network_that_gives_only_nan_is_an_error(noise_images: Path) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.out(x * torch.nan)
            return y

    with pytest.raises(UserError, match="no finite activation vector"):
        sample(Model.wrap(Broken(), size=16), "out", open_images(noise_images), samples=24, per_image=1)


def test_revisiting_the_same_layer_finds_the_same_vectors_whatever_the_order_of_rows(noise_images: Path) -> None:
    model, images = toy_model(), open_images(noise_images)
    found, _, _ = sample(model, "4", images, samples=200, per_image=4)
    shuffled = found.part(np.random.default_rng(0).permutation(len(found))[:150])
    again, rows = revisit(model, "4", images, shuffled, (8, 8))
    assert rows.tolist() == list(range(150))
    assert np.allclose(again.vectors, shuffled.vectors, atol=1e-5)
    assert np.array_equal(again.position, shuffled.position)


def test_in_a_map_of_another_size_a_position_stays_at_its_place_in_the_view(noise_images: Path) -> None:
    coarse, fine = (Model.wrap(Positions(rows, columns), size=48) for rows, columns in ((4, 4), (12, 12)))
    images = open_images(noise_images)
    found, _, _ = sample(coarse, "encode", images, samples=100, per_image=4)
    again, _ = revisit(fine, "encode", images, found, (4, 4))
    # The middle of the coarse cell, of three rows and columns of the fine map.
    assert np.array_equal(again.vectors[:, 0], found.position[:, 0] * 3 + 1)
    assert np.array_equal(again.vectors[:, 1], found.position[:, 1] * 3 + 1)
    back, _ = revisit(coarse, "encode", images, again, (12, 12))
    assert np.array_equal(back.position, found.position)


def test_rows_of_images_that_have_gone_are_left_out_of_a_revisit(tmp_path: Path) -> None:
    images = open_images(noise_folder(tmp_path / "images", 12))
    found, _, _ = sample(toy_model(), "4", images, samples=48, per_image=4)
    (tmp_path / "images" / "003.png").unlink()
    again, rows = revisit(toy_model(), "4", images, found, (8, 8))
    assert 3 not in again.image
    assert np.array_equal(found.image[rows], again.image)
    assert len(rows) == 44


def test_a_revisit_can_be_kept_and_taken_up_again() -> None:
    places = {(0, 0): torch.tensor([[0, 1]]), (1, 0): torch.tensor([[2, 2], [1, 0]])}
    maps = torch.randn(2, 3, 4, 4)
    whole, first, second = (Revisitor("x", places) for _ in range(3))
    whole.update(_batch(maps, [0, 1]))
    first.update(_batch(maps[:1], [0]))
    second.update(_batch(maps[1:], [1]))
    second.merge(first)
    again = Revisitor("x", places)
    again.load(second.state())
    for name, values in whole.state().items():
        assert torch.equal(values, again.state()[name])
    assert torch.equal(whole.state()["vectors"], torch.stack([maps[0, :, 0, 1], maps[1, :, 2, 2], maps[1, :, 1, 0]]))
