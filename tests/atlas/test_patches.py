from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor, nn
from toys import noise_folder, toy_model

import atlas
from atlas.patches import CORNERS, as_patch, noise_patches, outcome, paste, photo_patches, right_views, wilson
from featviz.errors import UserError
from featviz.network.models import Model
from search.images.decode import cut, view_boxes
from search.images.images import open_images


class Brightest(nn.Module):
    """Classes red, green, blue: which colour is the strongest at the brightest place of a coarse map."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.AvgPool2d(8)

    def forward(self, images: Tensor) -> Tensor:
        return self.maps(images).amax((2, 3)) * 20


def _model() -> Model:
    return Model.wrap(
        Brightest(), name="colours", size=32, mean=(0, 0, 0), std=(1, 1, 1), labels=("red", "green", "blue")
    )


def _coloured(folder: Path) -> Path:
    """Dark images, most with a red spot and labelled 0; some labelled 1 with a green, some 2 with a blue one."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(24):
        label = (0, 0, 1, 2)[number % 4]
        pixels = rng.integers(0, 40, (48, 48, 3), dtype=np.uint8)
        pixels[16:32, 16:32, label] = rng.integers(120, 240)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
        rows.append({"file": f"{number:02d}.png", "class_index": label})
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["file", "class_index"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_a_patch_fills_its_corner_and_nothing_else() -> None:
    views = torch.rand(3, 3, 20, 40)
    for corner in CORNERS:
        pasted = paste(views, torch.ones(3, 7, 7), 0.25, corner)
        changed = (pasted != views).any(1).any(0)
        rows, columns = changed.nonzero().T
        assert changed.sum() == 25
        assert (rows.min(), rows.max()) == ((0, 4) if corner.startswith("top") else (15, 19))
        assert (columns.min(), columns.max()) == ((0, 4) if corner.endswith("left") else (35, 39))
        assert (pasted[:, :, rows, columns] == 1).all()


def test_the_same_flips_as_a_slow_loop_over_images(tmp_path: Path) -> None:
    model, images = _model(), open_images(_coloured(tmp_path / "images"))
    patch = torch.zeros(3, 9, 9)
    patch[2] = 0.7
    shown, tried = right_views(model, images, 0, 12)
    found = outcome(model, shown, patch, 0, 2, sizes=[0.2, 0.5])
    own = [number for number, label in enumerate(images.labels) if label == 0]
    assert tried == len(own) == 12
    right = 0
    for number in own:
        image = images.open(number)
        (box,) = view_boxes(image.size, model.preprocess, number, 1, 0)
        pixels = cut(image, box, model.preprocess).float() / 255
        if int(model.network(pixels[None]).argmax()) != 0:
            continue
        for row, size in enumerate((0.2, 0.5)):
            for column, corner in enumerate(CORNERS):
                side = int(size * 32)
                top, left = (0 if "top" in corner else 32 - side), (0 if "left" in corner else 32 - side)
                changed = pixels.clone()
                changed[:, top : top + side, left : left + side] = patch[:, :1, :1]
                assert found.top1[row, column, right] == int(model.network(changed[None]).argmax())
        right += 1
    assert right == len(shown)
    flips = found.to_target.sum(2)
    assert 0 < flips.min() < flips.max()
    assert found.flips_fixed == flips.max()
    assert found.flips_best == sum(bool(found.to_target[:, :, view].any()) for view in range(right))
    assert found.flips_best >= found.flips_fixed


def test_few_images_are_shown_in_seeded_views_of_each_and_search_views_are_others(tmp_path: Path) -> None:
    model, images = _model(), open_images(_coloured(tmp_path / "images"))
    shown, tried = right_views(model, images, 2, 20)
    again, _ = right_views(model, images, 2, 20)
    others, _ = right_views(model, images, 2, 10, skip=20)
    assert tried == 20
    assert set(shown.image.tolist()) <= {number for number, label in enumerate(images.labels) if label == 2}
    assert torch.equal(shown.pixels, again.pixels)
    assert not any(torch.equal(one, other) for one in shown.pixels for other in others.pixels)
    with pytest.raises(UserError, match="not one of the 24 images is labelled 'class 7'"):
        right_views(model, images, 7, 5)


def test_random_photographs_leave_out_both_classes_and_noise_is_seeded(tmp_path: Path) -> None:
    model, images = _model(), open_images(_coloured(tmp_path / "images"))
    for patch in photo_patches(model, images, 9, without=[0, 2]):
        assert patch.shape == (3, 32, 32)
        assert patch[2].max() < 0.3
    first, second = noise_patches(model, 2), noise_patches(model, 2)
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], first[1])


def test_damaged_photographs_are_passed_over(tmp_path: Path) -> None:
    folder = noise_folder(tmp_path / "images", 4)
    (folder / "001.png").write_bytes(b"no image")
    assert len(photo_patches(toy_model(), open_images(folder), 6, without=[])) == 6


@pytest.mark.parametrize(("hits", "count"), [(0, 7), (3, 7), (7, 7), (40, 1000)])
def test_the_interval_of_a_share_equals_scipys(hits: int, count: int) -> None:
    expected = stats.binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert wilson(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_a_patch_test_finds_what_flips_and_what_does_not_and_writes_it(tmp_path: Path) -> None:
    folder = _coloured(tmp_path / "images")
    Image.new("RGB", (20, 30), (0, 0, 250)).save(tmp_path / "blue.png")
    Image.new("RGB", (20, 30), (5, 5, 5)).save(tmp_path / "black.png")
    blue, black = (
        atlas.patch_test(
            _model(), "red", "blue", folder, patch=tmp_path / f"{name}.png", layer="maps", views=12,
            out=tmp_path / name,
        )
        for name in ("blue", "black")
    )  # fmt: skip
    assert blue.share == 1
    assert black.share == 0
    stored = json.loads((tmp_path / "blue" / "patches.json").read_text(encoding="utf-8"))
    assert len(stored["sizes"]) == 5 * 4
    for row in stored["sizes"]:
        assert row["tried"] == 12
        assert row["flipped_to_target"] <= row["flipped_to_anything"] <= row["correct_before"]
        assert {"noise_to_target", "noise_to_anything", "size", "corner"} <= row.keys()
    for name in ("patch.png", "strip.png", "sweep.png", "index.html", "manifest.json"):
        assert (tmp_path / "blue" / name).is_file()
    again = atlas.patch_test(
        _model(), "red", "blue", folder, patch=tmp_path / "blue.png", layer="maps", views=12, out=tmp_path / "blue"
    )
    assert again.found == stored
    assert again.manifest["conclusion"] == blue.manifest["conclusion"]


def test_another_patch_of_the_same_name_and_size_and_other_preprocessing_are_other_work(tmp_path: Path) -> None:
    folder, file, model = _coloured(tmp_path / "images"), tmp_path / "patch.bmp", _model()
    for colour in ((0, 0, 250), (5, 5, 5)):
        Image.new("RGB", (20, 30), colour).save(file)
        if colour[2] == 250:
            atlas.patch_test(model, "red", "blue", folder, patch=file, layer="maps", views=12, out=tmp_path / "out")
    with pytest.raises(UserError, match="patch was"):
        atlas.patch_test(model, "red", "blue", folder, patch=file, layer="maps", views=12, out=tmp_path / "out")
    Image.new("RGB", (20, 30), (0, 0, 250)).save(file)
    other = replace(model, preprocess=replace(model.preprocess, crop=0.5))
    with pytest.raises(UserError, match="crop was"):
        atlas.patch_test(other, "red", "blue", folder, patch=file, layer="maps", views=12, out=tmp_path / "out")


def test_a_search_is_not_taken_up_with_images_that_were_changed_since(tmp_path: Path) -> None:
    folder, out = _coloured(tmp_path / "images"), tmp_path / "out"

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "testing":
            raise KeyboardInterrupt

    options: dict[str, Any] = {"layer": "maps", "views": 6, "samples": 120, "per_image": 4, "out": out}
    with pytest.raises(KeyboardInterrupt):
        atlas.patch_test(_model(), "red", "blue", folder, progress=stop, **options)
    os.utime(folder / "00.png", (1e9, 1e9))
    with pytest.raises(UserError, match="images were changed since"):
        atlas.patch_test(_model(), "red", "blue", folder, **options)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sizes": [0.5, 1.5]}, "larger than the image"),
        ({"sizes": [0.0]}, "shares of an image's side"),
        ({"target": "red"}, "both classes are 'red'"),
        ({"patch": "missing.png"}, "missing.png"),
        ({"views": 0}, "--views starts at 1"),
    ],
)
def test_what_cannot_be_tested_is_refused_before_anything_is_written(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    folder = _coloured(tmp_path / "images")
    Image.new("RGB", (20, 30), (0, 0, 250)).save(tmp_path / "blue.png")
    arguments: dict[str, Any] = {"target": "blue", "patch": tmp_path / "blue.png", "layer": "maps", **changed}
    with pytest.raises(UserError, match=said):
        atlas.patch_test(_model(), "red", arguments.pop("target"), folder, out=tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_searched_patch_is_of_neither_class_and_beats_noise(tmp_path: Path) -> None:
    folder = _coloured(tmp_path / "images")
    for number in range(6):  # what the network takes for blue, though it is labelled green
        pixels = np.zeros((48, 48, 3), np.uint8)
        pixels[8:40, 8:40] = (0, 200, 255)
        Image.fromarray(pixels).save(folder / f"cyan{number}.png")
    with (folder / "labels.csv").open("a", newline="") as stream:
        csv.writer(stream).writerows([[f"cyan{number}.png", 1] for number in range(6)])
    made = atlas.patch_test(
        _model(), "red", "blue", folder, layer="maps", views=12, samples=120, per_image=4, out=tmp_path / "out"
    )
    assert made.share == 1
    assert made.found["noise_fixed"]["share"] <= made.share
    used = [row["image"] for row in made.found["candidates"]]
    labels = dict(zip(open_images(folder).names, open_images(folder).labels, strict=True))
    assert {labels[name] for name in used} == {1}
    assert used[0].startswith("cyan")
    rounds = [row["second_round"] for row in made.found["candidates"] if row["second_round"] is not None]
    assert rounds == sorted(rounds, reverse=True)


def test_images_without_labels_cannot_be_tested_on(noise_images: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png")
    with pytest.raises(UserError, match=r"labels\.csv"):
        atlas.patch_test(toy_model(), "a", "b", noise_images, patch=tmp_path / "p.png", layer="4")


def test_a_part_of_an_image_becomes_a_square_patch() -> None:
    image = Image.new("RGB", (60, 30), (255, 0, 0))
    image.paste((0, 0, 255), (30, 0, 60, 30))
    patch = as_patch(_model(), image, (40, 5, 60, 25))
    assert patch.shape == (3, 32, 32)
    assert patch[2].min() == 1
