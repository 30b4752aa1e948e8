"""The whole road with a toy network, in seconds: images -> vectors -> layout -> cells -> icons -> page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from toys import noise_folder, toy_model

import atlas


def test_the_whole_road(tmp_path: Path) -> None:
    images = noise_folder(tmp_path / "images", 30)
    (images / "labels.csv").write_text(
        "file,class_index,name\n" + "".join(f"{i:03d}.png,{i % 4},c\n" for i in range(30))
    )
    out = tmp_path / "out"
    built = atlas.build(
        toy_model(), "4", images, out=out, grid=(3, 6), icon=24, steps=24, samples=240, per_image=8, min_count=3
    )

    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["command"] == "build"
    assert manifest["vectors"] == len(built.xy) == 240
    assert manifest["images"]["used"] == 30
    assert manifest["seconds"].keys() == {"sample", "layout", "icons", "photos", "names", "write"}

    cells = json.loads((out / "cells.json").read_text())
    assert len(cells) == sum(manifest["cells"].values()) == len(built.cells)
    assert sum(cell["count"] for cell in cells if cell["level"] == 3) <= 240
    for cell in cells:
        assert set(cell) == {
            "level", "row", "col", "count", "xy", "top", "exemplars", "nearest", "score", "clean", "name",
        }  # fmt: skip
        assert all(0 <= image < 30 for image, _, _ in cell["exemplars"])
    assert np.median([cell["score"] for cell in cells]) > 0.3

    for level in (3, 6):
        with Image.open(out / "icons" / f"level-{level}.png") as picture:
            sheet = np.asarray(picture)
        assert sheet.shape == (level * 24, level * 24, 4)
        drawn = {(cell["row"], cell["col"]) for cell in cells if cell["level"] == level}
        opaque = sheet.reshape(level, 24, level, 24, 4)[:, 12, :, 12, 3] == 255
        assert {(int(row), int(col)) for row, col in zip(*np.nonzero(opaque), strict=True)} == drawn
    with Image.open(out / "atlas.png") as picture:
        assert picture.size[0] >= 3 * 24
    assert "<title>Activation atlas: toy, 4</title>" in (out / "index.html").read_text()
    assert atlas.load(out).manifest["vectors"] == 240
