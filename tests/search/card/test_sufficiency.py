from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toys import noise_folder, toy_model

from featviz.network.models import Model
from search.card.sufficiency import crop_sufficiency
from search.exemplars.exemplars import exemplars
from search.images.images import open_images


class _Brightness(nn.Module):
    """Channel 0: how far each 8 x 8 block is above grey; channel 1: how far the whole image is, everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.out = nn.AvgPool2d(8), nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        blocks = (self.pool(images).mean(1, keepdim=True) - 0.5).relu()
        whole = (images.mean((1, 2, 3), keepdim=True) - 0.5).relu().expand_as(blocks)
        result: Tensor = self.out(torch.cat([blocks, whole], 1))
        return result


def _model() -> Model:
    return Model.wrap(_Brightness(), size=32, mean=(0.0,) * 3, std=(1.0,) * 3, crop=1.0)


def test_a_local_unit_needs_its_crop_alone_and_nothing_else(tmp_path: Path) -> None:
    found = exemplars(_model(), open_images(noise_folder(tmp_path, 12, size=32)), "out", k=3)
    # All that moves channel 0 lies within its block; the effective extent is an average over both channels.
    for result in crop_sufficiency(found, "out", 0):
        assert result.alone == pytest.approx(1, abs=0.01)
        assert result.without is not None
        assert result.without < 0.5


def test_a_global_unit_loses_much_with_either(tmp_path: Path) -> None:
    found = exemplars(_model(), open_images(noise_folder(tmp_path, 40, size=32)), "out", k=2)
    for result in crop_sufficiency(found, "out", 1):
        assert result.alone is not None
        assert result.without is not None
        # Grey adds nothing, so the two shares make up the whole.
        assert result.alone + result.without == pytest.approx(1, abs=0.01)


def test_shares_of_what_is_not_above_zero_are_none(tmp_path: Path) -> None:
    found = exemplars(toy_model(), open_images(noise_folder(tmp_path, 12)), "4", k=12)
    for layer, channel in found:
        for entry, result in zip(found.of(layer, channel), crop_sufficiency(found, layer, channel), strict=True):
            assert (result.alone is None) == (entry.value <= 0) or abs(entry.value) < 1e-4
