"""A network of seven bands that looks at one of them: whatever shows it has to find that band."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from toys import noise_folder

import atlas
from atlas.explain import ExplainSettings
from atlas.explanation import conclusion
from atlas.render import render_units
from featviz import maximize
from featviz.draw.drawing import Drawing
from featviz.draw.objectives import channel
from featviz.errors import UserError
from featviz.network.models import Model
from search import exemplars

# The band that alone counts, and the images' levels in it.
TOLD, LEVELS = 4, (7, 2, 9, 0, 5, 11, 3, 8, 1, 10, 6, 4)


@pytest.fixture(scope="module")
def model() -> Model:
    """Channel 0: the mean of band 4; channel 1: its slope; the others read all bands."""
    torch.manual_seed(0)
    conv = nn.Conv2d(7, 4, 3, padding=1)
    with torch.no_grad():
        conv.weight[:2], conv.bias[:] = 0, 0.1  # type: ignore[index]
        conv.weight[0, TOLD], conv.weight[1, TOLD, 1, 0], conv.weight[1, TOLD, 1, 2] = 1 / 9, -1, 1
    return Model.wrap(
        nn.Sequential(conv, nn.ReLU()), name="seven", size=24, mean=(0.2,) * 7, std=(0.25,) * 7,
        bands=[f"B{number}" for number in range(1, 8)], show=("B4", "B3", "B2"), range=(0, 10000), default_layer="1",
    )  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise in every band but the one that counts, which is of one level each; bands first or last."""
    folder, rng = tmp_path_factory.mktemp("seven"), np.random.default_rng(0)
    for number, level in enumerate(LEVELS):
        values = rng.integers(0, 10000, (7, 32, 40), np.uint16)
        values[TOLD] = 2500 + 500 * level
        np.save(folder / f"{number:02d}.npy", values if number % 2 else values.transpose(1, 2, 0))
    return folder


def test_the_images_that_are_strong_in_the_band_come_first(model: Model, images: Path) -> None:
    found = exemplars(model, images, ["1"], k=12, workers=0)
    best = found["1", 0]
    assert [LEVELS[entry.image] for entry in best] == sorted(LEVELS, reverse=True)
    share = (2500 + 500 * 11) / 10000
    assert best[0].value == pytest.approx((share - 0.2) / 0.25 + 0.1, rel=1e-4)
    shown = np.asarray(found.images.open(0))
    stored = np.load(images / "00.npy")[:, :, [3, 2, 1]]
    assert np.abs(shown - stored / 10000 * 255).max() <= 0.501
    assert found.sheet(("1", 0)).mode == "RGB"


def test_a_picture_lies_in_the_band_that_counts(model: Model) -> None:
    picture = maximize(model, channel("1", 1), size=24, steps=20, attempts=1).images[0].float().flatten(1)
    changed = picture.var(1)
    assert changed[TOLD] >= 0.95 * changed.sum()


def test_superstimuli_are_kept_whole_beside_what_is_shown(model: Model, tmp_path: Path) -> None:
    render_units(model, ["1:1"], out=tmp_path / "out", drawing=Drawing(size=24, steps=4))
    whole, shown = np.load(tmp_path / "out/1_1.npy"), Image.open(tmp_path / "out/1_1.png")
    assert whole.shape == (7, 24, 24)
    assert np.array_equal(np.asarray(shown), whole[[3, 2, 1]].transpose(1, 2, 0))


def test_an_explanation_names_the_band(model: Model, images: Path, tmp_path: Path) -> None:
    made = atlas.explain(
        model,
        images / "02.npy",
        "1:0",
        methods=["saliency"],
        settings=ExplainSettings(trust=False),
        out=tmp_path / "out",
    )
    stored = json.loads((tmp_path / "out/explain.json").read_text())["bands"]
    assert [row["name"] for row in stored] == [f"B{number}" for number in range(1, 8)]
    assert [row["share"] for row in stored] == [0, 0, 0, 0, 1, 0, 0]
    assert any("100% in B5" in line for line in conclusion(made))
    assert (tmp_path / "out/bands.png").is_file()


def test_an_atlas_of_bands_is_built(model: Model, images: Path, tmp_path: Path) -> None:
    made = atlas.build(
        model, "1", images=images, out=tmp_path / "out", grid=(2,), steps=2, icon=24, samples=60, min_count=1,
        reducer="pca", workers=0,
    )  # fmt: skip
    assert made.pictures is not None
    assert made.pictures.shape[1:] == (24, 24, 3)
    assert (tmp_path / "out/manifest.json").is_file()


def test_photographs_are_refused(model: Model, tmp_path: Path) -> None:
    noise_folder(tmp_path / "rgb", 2)
    with pytest.raises(UserError, match=r"images of 7 bands \(B1, .*, and 000\.png holds a photograph \(RGB\)"):
        exemplars(model, tmp_path / "rgb", ["1"], k=1, workers=0)
    with pytest.raises(UserError, match="holds a photograph"):
        atlas.explain(model, tmp_path / "rgb/000.png", "1:0")
