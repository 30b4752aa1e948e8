from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import toy_model

import atlas
from atlas.grid import cell_numbers
from atlas.project import COMPILED
from featviz.errors import UserError

SMALL: dict[str, Any] = {"grid": (3,), "icon": 16, "steps": 1, "samples": 96, "per_image": 4, "min_count": 1}


@pytest.mark.slow
def test_two_layers_are_laid_out_together_place_for_place(noise_images: Path, tmp_path: Path) -> None:
    made = atlas.align(toy_model(), "1", "4", noise_images, out=tmp_path, **SMALL)
    assert all(getattr(import_module(module), name).stats.cache_path for module, name in COMPILED)
    first, second = made.first.sample, made.second.sample
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.box, second.box)
    # 16 x 16 positions against 8 x 8: the same place of the view.
    assert np.array_equal(second.position, first.position // 2)
    assert (first.vectors.shape[1], second.vectors.shape[1]) == (8, 6)
    assert made.near > made.near_by_chance
    here, there = cell_numbers(made.first.xy, 3), cell_numbers(made.second.xy, 3)
    for key, to in made.flow.items():
        _, row, col = map(int, key.split("/"))
        inside = there[here == row * 3 + col]
        for place_row, place_col, share in to:
            assert share == pytest.approx((inside == place_row * 3 + place_col).mean(), abs=1e-3)
    assert (tmp_path / "other" / "cells.json").is_file()
    assert json.loads((tmp_path / "flow.json").read_text(encoding="utf-8")).keys() == made.flow.keys()
    loaded = atlas.align(toy_model(), "1", "4", noise_images, out=tmp_path, **SMALL)
    assert loaded.flow == made.flow
    assert loaded.second.settings.layer == "4"
    assert np.array_equal(loaded.second.pictures, made.second.pictures)


def test_a_layer_without_positions_cannot_be_aligned(noise_images: Path) -> None:
    with pytest.raises(UserError, match="no spatial positions"):
        atlas.align(toy_model(), "4", "8", noise_images, **SMALL)
