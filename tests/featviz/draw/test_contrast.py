from __future__ import annotations

import pytest
import torch

from featviz.draw.contrast import PHOTOGRAPHS, ColorRange, contrast, saturation


def test_a_checkerboard_has_all_the_contrast_and_no_saturation() -> None:
    board = ((torch.arange(8)[:, None] + torch.arange(8)[None]) % 2).float().expand(1, 3, -1, -1)
    assert contrast(board).tolist() == [[0.5, 0.5, 0.5]]
    assert saturation(board).tolist() == [0]
    red = torch.stack([torch.ones(8, 8), torch.zeros(8, 8), torch.zeros(8, 8)])[None]
    assert contrast(red).abs().max() == 0
    assert saturation(red).tolist() == [1]


def test_a_range_holds_nine_images_in_ten() -> None:
    images = torch.rand(1000, 1, 1, 1) * (torch.rand(1000, 3, 8, 8) - 0.5) + 0.5
    found = ColorRange.of(contrast(images), saturation(images))
    for column in range(3):
        values = contrast(images)[:, column]
        inside = (values >= found.contrast[column, 0]) & (values <= found.contrast[column, 1])
        assert inside.float().mean() == pytest.approx(0.9, abs=0.005)
    assert PHOTOGRAPHS.holds(torch.full((3, 8, 8), 0.5)) == (False, False)
