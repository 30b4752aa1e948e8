from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from toys import noise_folder, toy_model

from featviz.network.models import Model
from search.exemplars.exemplars import exemplars
from search.exemplars.focus import activation_masks, located, near_misses, unit_maps, views
from search.images.images import open_images


class _Patches(nn.Module):
    """Channel 0: how red each 8 x 8 block is; channel 1: how green; 2 to 9: how blue the image is, in eight ways."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.out = nn.AvgPool2d(8), nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        blocks = self.pool(images)
        blue = images[:, 2].mean((1, 2))[:, None, None, None].expand(-1, 8, 4, 4)
        found: Tensor = self.out(torch.cat([blocks[:, :2], blue * torch.arange(1, 9).view(8, 1, 1)], 1))
        return found


def _model() -> Model:
    return Model.wrap(_Patches(), size=32, mean=(0.0,) * 3, std=(1.0,) * 3, crop=1.0)


def test_the_mask_covers_what_excites_the_unit_and_nothing_else(tmp_path: Path) -> None:
    for number in range(30):
        image = Image.new("RGB", (32, 32), (number % 5, 0, 0))
        if number == 7:
            image.paste((255, 0, 0), (16, 8, 24, 16))  # block (row 1, column 2)
        image.save(tmp_path / f"{number:02d}.png")
    found = exemplars(_model(), open_images(tmp_path), "out", k=2)
    assert (found["out", 0][0].image, found["out", 0][0].row, found["out", 0][0].column) == (7, 1, 2)
    mask = activation_masks(found, "out", 0, views(found, [7, 8]), share=0.9)
    assert mask.shape == (2, 32, 32)
    assert mask[0, 9:15, 17:23].all()
    assert not mask[0, :, :8].any()
    assert not mask[0, 20:].any()
    maps = unit_maps(found, "out", 0, views(found, [7, 8]))
    assert (maps.shape, float(maps[0, 1, 2])) == ((2, 4, 4), pytest.approx(1, abs=0.01))


def test_near_misses_excite_the_other_units_alike_but_not_this_one(tmp_path: Path) -> None:
    # Blue and red: exemplars of channel 0. Blue alone: near misses. Neither: far.
    for number in range(30):
        colors = [(200 + number, 0, 200), (number, 0, 200), (number, 0, 0)]
        Image.new("RGB", (32, 32), colors[number % 3]).save(tmp_path / f"{number:02d}.png")
    found = exemplars(_model(), open_images(tmp_path), "out", k=4)
    missed = near_misses(found, "out", 0, 5)
    assert [entry.image % 3 for entry in missed] == [1] * 5
    assert max(entry.value for entry in missed) < 0.2


def test_too_few_units_to_tell_by_have_no_near_misses(tmp_path: Path) -> None:
    found = exemplars(toy_model(), open_images(noise_folder(tmp_path, 12)), "4", k=3)
    assert near_misses(found, "4", 0) == []


def test_located_images_are_the_exemplars_that_the_pass_found(tmp_path: Path) -> None:
    found = exemplars(toy_model(), open_images(noise_folder(tmp_path, 12)), "4", k=3)
    entries = found["4", 2]
    again = located(found, "4", 2, [entry.image for entry in entries])
    assert [(e.image, e.row, e.column, e.box) for e in again] == [(e.image, e.row, e.column, e.box) for e in entries]
    assert [e.value for e in again] == pytest.approx([e.value for e in entries], abs=1e-5)
    assert located(found, "4", 2, []) == []


def test_a_class_is_active_everywhere(tmp_path: Path) -> None:
    found = exemplars(toy_model(), open_images(noise_folder(tmp_path, 12)), "output", k=3)
    assert activation_masks(found, "output", 1, views(found, [0, 1])).all()
