from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toys import noise_folder, toy_model

from search.exemplars.exemplars import exemplars
from search.exemplars.sheet import MARK, called, crop, layer_sheet, shade, unit_sheet, whole
from search.images.images import open_images


def _halves() -> Image.Image:
    """64 x 32, the left half red, the right half blue."""
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :32, 0], pixels[:, 32:, 2] = 255, 255
    return Image.fromarray(pixels)


def test_a_crop_shows_its_box_and_keeps_its_proportions() -> None:
    assert np.asarray(crop(_halves(), (4, 4, 28, 28), 16)).reshape(-1, 3).tolist() == [[255, 0, 0]] * 256
    wide = np.asarray(crop(_halves(), (0, 0, 64, 32), 16))
    assert wide[0].tolist() == [[128, 128, 128]] * 16
    assert wide[8, 2].tolist() == [255, 0, 0]
    assert wide[8, 13].tolist() == [0, 0, 255]
    # 8 x 16 at the right edge: made square, and no further right than the image reaches.
    assert np.asarray(crop(_halves(), (56, 8, 64, 24), 16)).reshape(-1, 3).tolist() == [[0, 0, 255]] * 256


def test_the_whole_image_has_its_box_outlined() -> None:
    shown = np.asarray(whole(_halves(), (32, 0, 64, 32), 64))
    mark = [int(MARK[place : place + 2], 16) for place in (1, 3, 5)]
    assert shown[16 + 0, 40].tolist() == mark
    assert shown[30, 32].tolist() == mark
    assert shown[30, 63].tolist() == mark
    assert shown[30, 48].tolist() == [0, 0, 255]


@pytest.mark.parametrize("count", [2, 30])
def test_sheets_hold_every_exemplar(tmp_path: Path, count: int) -> None:
    found = exemplars(toy_model(), open_images(noise_folder(tmp_path, count)), "4", k=5)
    sheet = unit_sheet(found, "4", 2, tile=64)
    pixels = np.asarray(sheet).astype(int)
    for place, entry in enumerate(found["4", 2]):
        left = 16 + place * 72
        expected = np.asarray(crop(found.images.open(entry.image), entry.effective_box, 64))
        assert np.array_equal(pixels[58:122, left : left + 64], expected)
    overview = np.asarray(layer_sheet(found, "4", tile=24, each=3)).astype(int)
    first = found["4", 0][0]
    expected = np.asarray(crop(found.images.open(first.image), first.effective_box, 24))
    assert np.array_equal(overview[40:64, 8 + 44 : 8 + 68], expected)


def test_a_unit_without_places_has_no_part_that_is_outlined(tmp_path: Path) -> None:
    found = exemplars(toy_model(), open_images(noise_folder(tmp_path, 6)), "output", k=3)
    pixels = np.asarray(unit_sheet(found, "output", 2, tile=64))
    for place, entry in enumerate(found["output", 2]):
        left = 16 + place * 72
        image = found.images.open(entry.image)
        assert np.array_equal(pixels[58:122, left : left + 64], np.asarray(crop(image, (0, 0, *image.size), 64)))
    mark = [int(MARK[place : place + 2], 16) for place in (1, 3, 5)]
    assert not (pixels == mark).all(2).any()
    assert called(found, "output", 2) == "c"
    assert called(found, "output", 2, width=0) == "c"


def test_from_python_exemplars_show_and_save_themselves(tmp_path: Path) -> None:
    found = exemplars(toy_model(), open_images(noise_folder(tmp_path / "images", 6)), "4", k=2)
    assert np.array_equal(np.asarray(found.sheet(("4", 1))), np.asarray(unit_sheet(found, "4", 1)))
    out = found.save(tmp_path / "out")
    names = {file.name for file in out.iterdir()}
    data = {"exemplars.json", "weakest.json", "quantiles.json", "statistics.json", "index.npz"}
    assert names == data | {"layer-4.png", "manifest.json"}
    assert found.save(tmp_path / "out") == out


def test_a_box_thinner_than_a_pixel_is_still_outlined() -> None:
    assert whole(_halves(), (10, 10, 10.1, 10.1), 32).size == (32, 32)


def test_what_a_mask_leaves_out_is_dark_and_so_is_what_the_network_did_not_see() -> None:
    mask = torch.zeros(2, 2, dtype=torch.bool)
    mask[:, 1] = True  # the right half of the view, which is the middle of the image
    white = Image.new("RGB", (80, 40), "white")
    shaded = np.asarray(shade(white, mask, (20, 0, 60, 40)))[20, :, 0]
    assert shaded[[5, 22, 70]].tolist() == [shaded[0]] * 3
    assert shaded[0] < 100
    assert shaded[57] == 255
