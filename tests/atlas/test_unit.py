from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toys import noise_folder, toy_model

from atlas.unit import draw_card
from featviz.draw.drawing import Drawing
from featviz.errors import UserError
from featviz.network.layers import OUTPUT
from featviz.network.units import Unit
from search.images.images import open_images

QUICK = Drawing(size=32, steps=4)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images of four classes, those of the second brighter."""
    folder = noise_folder(tmp_path_factory.mktemp("labelled"), 40)
    for number in range(1, 40, 4):
        with Image.open(folder / f"{number:03d}.png") as image:
            brighter = 128 + np.asarray(image) // 2
        Image.fromarray(brighter.astype(np.uint8)).save(folder / f"{number:03d}.png")
    rows = "".join(f"{number:03d}.png,{number % 4},kind {number % 4}\n" for number in range(40))
    (folder / "labels.csv").write_text(f"file,class_index,name\n{rows}")
    return folder


def test_a_card_holds_what_its_parts_say(tmp_path: Path, labelled: Path) -> None:
    card = draw_card(toy_model(), "4:2", out=tmp_path / "x", images=labelled, drawing=QUICK)
    assert card is not None
    assert [entry.unit for entry in card.certificates] == ["4:2", "-4:2"]
    assert len(card.values) == 40
    assert card.certificates[0].clean_max == pytest.approx(card.values.max())
    assert card.selectivity is not None
    assert card.selectivity.classes == 4
    assert [found.name for found in card.tunings] == ["bars", "edges", "gratings", "curves", "dots", "colors"]
    assert len(card.similar) == 5
    assert len(card.sufficiency) == 9
    stored = json.loads((tmp_path / "x" / "card.json").read_text())
    assert stored["unit"] == "4:2"
    assert stored["selectivity"]["label"] == card.selectivity.label
    assert len(stored["tuning"]["bars"]["responses"]) == 16
    best = json.loads((tmp_path / "x" / "exemplars.json").read_text())["4"]["2"]
    assert [entry["image"] for entry in best] == [entry.image for entry in card.exemplars["4", 2]]
    with Image.open(tmp_path / "x" / "card.png") as sheet:
        assert sheet.width == 1400
        assert sheet.height > 1500
        assert np.asarray(sheet.convert("L")).std() > 30
    page = (tmp_path / "x" / "index.html").read_text()
    assert "4:2" in page
    assert "default-src 'none'" in page
    again = draw_card(
        toy_model(), "4:2", out=tmp_path / "x", images=labelled, drawing=QUICK,
        progress=lambda *_: pytest.fail("worked again"),
    )  # fmt: skip
    assert again is None


@pytest.mark.parametrize("word", ["-4:1", "4:3@center", "class:b", "1:0@2,3"])
def test_every_kind_of_unit_has_a_card(tmp_path: Path, labelled: Path, word: str) -> None:
    card = draw_card(toy_model(), word, out=tmp_path / "x", images=labelled, drawing=QUICK, k=3)
    assert card is not None
    opposite = str(card.unit)[1:] if word.startswith("-") else f"-{card.unit}"
    assert [entry.unit for entry in card.certificates] == [str(card.unit), opposite]
    best = card.exemplars[card.unit.layer, card.unit.channel]
    if card.unit.position is not None or card.unit.is_class:  # ranked by the very values of the histogram
        assert [entry.value for entry in best] == pytest.approx(sorted(card.values, reverse=True)[:3], abs=1e-4)
    else:
        assert best[0].value >= card.values.max()


def test_images_without_labels_have_no_selectivity(tmp_path: Path) -> None:
    images = open_images(noise_folder(tmp_path / "images", 9))
    card = draw_card(toy_model(), "4:2", out=tmp_path / "x", images=images, drawing=QUICK)
    assert card is not None
    assert card.selectivity is None
    assert json.loads((tmp_path / "x" / "card.json").read_text())["selectivity"] is None


def test_a_card_shows_one_unit(tmp_path: Path, labelled: Path) -> None:
    with pytest.raises(UserError, match="a card shows one unit; '4:0-2' names 3"):
        draw_card(toy_model(), "4:0-2", out=tmp_path / "x", images=labelled)
    assert not (tmp_path / "x").exists()


def test_the_card_of_a_direction_along_a_channel_is_the_channels(tmp_path: Path, labelled: Path) -> None:
    np.save(tmp_path / "v.npy", np.eye(6, dtype=np.float32)[[2, 0]])
    word = f"4:{tmp_path / 'v.npy'}#0"
    card = draw_card(toy_model(), word, out=tmp_path / "x", images=labelled, drawing=QUICK)
    channel = draw_card(toy_model(), "4:2", out=tmp_path / "y", images=labelled, drawing=QUICK)
    assert card is not None
    assert channel is not None
    best = [(entry.image, entry.row, entry.column) for entry in card.exemplars[card.key, 0]]
    assert best == [(entry.image, entry.row, entry.column) for entry in channel.exemplars["4", 2]]
    assert card.values == pytest.approx(channel.values, abs=1e-5)
    for own, other in zip(card.tunings, channel.tunings, strict=True):
        assert own.responses[:, 0] == pytest.approx(other.responses[:, 2], abs=1e-5)
    np.save(tmp_path / "v.npy", np.eye(6, dtype=np.float32))
    with pytest.raises(UserError, match="other settings"):
        draw_card(toy_model(), word, out=tmp_path / "x", images=labelled, drawing=QUICK)


def test_the_card_of_a_direction_among_logits_has_no_class_for_a_name(tmp_path: Path, labelled: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((1, 4), np.float32))
    unit = Unit(OUTPUT, 0, vectors=str(tmp_path / "v.npy"))
    card = draw_card(toy_model(), unit, out=tmp_path / "x", images=labelled, drawing=QUICK)
    assert card is not None
    assert card.name == str(unit)


def test_a_card_with_a_similarity_says_how_interpretable_its_unit_is(tmp_path: Path, labelled: Path) -> None:
    card = draw_card(
        toy_model(), "4:2", out=tmp_path / "x", images=labelled, drawing=QUICK, similarity=toy_model(seed=5)
    )
    assert card is not None
    assert card.certificates[0].mis is not None
    assert 0 <= card.certificates[0].mis <= 1


def test_a_unit_that_no_image_moves_has_no_exemplars_on_its_card(tmp_path: Path, labelled: Path) -> None:
    model = toy_model()
    with torch.no_grad():
        model.network[0].weight[2] = 0.0  # type: ignore[index, operator, union-attr]
    card = draw_card(model, "0:2", out=tmp_path / "dead", images=labelled, drawing=QUICK)
    assert card is not None
    assert card.unmoved == "0 on all 40 images: none of them moves it"
    assert json.loads((tmp_path / "dead" / "card.json").read_text())["unmoved"] == card.unmoved
    alive = draw_card(model, "0:1", out=tmp_path / "alive", images=labelled, drawing=QUICK)
    assert alive is not None
    assert not alive.unmoved
    sheets = []
    for name in ("dead", "alive"):
        with Image.open(tmp_path / name / "card.png") as sheet:
            sheets.append(sheet.height)
    assert sheets[0] < sheets[1] - 300
