from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toys import toy_model

import atlas
from atlas.photos import Photographs
from featviz.errors import UserError
from search.images.images import open_images

SMALL: dict[str, Any] = {
    "grid": (3,), "icon": 24, "steps": 1, "samples": 96, "per_image": 4, "min_count": 1, "reducer": "pca",
}  # fmt: skip


def _gradient_images(folder: Path) -> Path:
    """Red grows to the right, green downwards: a crop's colour says where it is from."""
    folder.mkdir()
    across = np.linspace(0, 255, 64).astype(np.uint8)
    for number in range(8):
        pixels = np.zeros((64, 64, 3), np.uint8)
        pixels[..., 0], pixels[..., 1], pixels[..., 2] = across[None], across[:, None], number * 30
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_a_crop_shows_the_place_that_the_activation_is_from(tmp_path: Path) -> None:
    model, images = toy_model(), open_images(_gradient_images(tmp_path / "images"))
    built = atlas.build(model, "4", images, **SMALL)
    photographs = Photographs.of(model, "4", images, built.sample)
    for row in range(0, 96, 7):
        left, top, right, bottom = photographs.box(row)
        view = built.sample.box[row]
        assert view[0] - 0.01 <= left < right <= view[2] + 0.01
        crop = np.asarray(photographs.crop(row, 20)).astype(float)
        assert crop[..., 0].mean() == pytest.approx((left + right) / 2 / 64 * 255, abs=6)
        assert crop[..., 1].mean() == pytest.approx((top + bottom) / 2 / 64 * 255, abs=6)
        assert round(crop[..., 2].mean() / 30) == built.sample.image[row]


@pytest.mark.parametrize("tiles", ["photos", "both"])
def test_cells_can_show_the_photograph_nearest_to_their_mean(tmp_path: Path, tiles: str) -> None:
    images = open_images(_gradient_images(tmp_path / "images"))
    built = atlas.build(toy_model(), "4", images, tiles=tiles, out=tmp_path / "x", **SMALL)
    photographs = Photographs.of(toy_model(), "4", images, built.sample)
    shown = built.pictures if tiles == "photos" else built.photos
    assert shown is not None
    for cell, picture in zip(built.cells, shown, strict=True):
        assert np.array_equal(picture, np.asarray(photographs.crop(cell.nearest[0], 24)))
        image, row, column = cell.exemplars[0]
        assert (built.sample.image[cell.nearest[0]], *built.sample.position[cell.nearest[0]]) == (image, row, column)
    assert (built.manifest["median_score"] is None) == (tiles == "photos")
    loaded = atlas.load(tmp_path / "x")
    assert np.array_equal(loaded.pictures, built.pictures)
    assert (loaded.photos is None) == (tiles == "photos")
    assert (tmp_path / "x" / "photos" / "level-3.png").is_file() == (tiles == "both")


def test_images_are_laid_out_by_their_codes_where_a_layer_has_no_positions(tmp_path: Path) -> None:
    images = _gradient_images(tmp_path / "images")
    settings = {**SMALL, "samples": 16}
    built = atlas.build(toy_model(), "7", images, tiles="photos", **settings)
    assert len(built.xy) == 16
    assert built.sample.vectors.shape == (16, 6)
    with pytest.raises(UserError, match="--tiles photos"):
        atlas.build(toy_model(), "7", images, **settings)
    with pytest.raises(UserError, match="icons, photos, both"):
        atlas.build(toy_model(), "4", images, tiles="picture", **SMALL)
