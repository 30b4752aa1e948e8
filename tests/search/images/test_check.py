from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import search
from featviz import Model
from featviz.errors import UserError


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty dark and twenty bright pictures in folders of those names."""
    folder = tmp_path_factory.mktemp("brightness")
    rng = np.random.default_rng(0)
    for name, level in (("dark", 121), ("bright", 135)):
        (folder / name).mkdir()
        for number in range(20):
            pixels = np.clip(rng.normal(level, 20, (12, 12, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def by_brightness(names: tuple[str, str] = ("dark", "bright"), **stated: object) -> Model:
    """Of images in [-1, 1], those above 0 are bright; it is sure of that. By ImageNet's mean all of them would be."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    with torch.no_grad():
        network[2].weight.copy_(torch.tensor([[-40.0] * 3, [40.0] * 3]))  # type: ignore[operator, union-attr]
        network[2].bias.zero_()  # type: ignore[operator, union-attr]
    return Model.wrap(network.eval(), size=12, labels=names, **stated)  # type: ignore[arg-type]


def test_a_network_that_is_fed_as_it_was_trained_is_right_and_nothing_is_noted(photographs: Path) -> None:
    found = search.check(by_brightness(mean=(0.5,) * 3, std=(0.5,) * 3), photographs)
    assert (found.images, found.accuracy, found.notes) == (40, 1.0, ())
    assert found.others["[0, 1]"] == 0.5


def test_a_wrong_mean_is_found_by_what_another_one_does(photographs: Path) -> None:
    found = search.check(by_brightness(mean=(0.0,) * 3, std=(1.0,) * 3), photographs)
    assert found.accuracy == 0.5
    assert "normalised by [-1, 1] the network names 100% rightly, by what is stated 50%" in found.notes[0]
    assert "mean=(0.5, 0.5, 0.5)" in str(found)


def test_names_in_another_order_are_found_by_how_sure_the_network_is(photographs: Path) -> None:
    found = search.check(by_brightness(("bright", "dark"), mean=(0.5,) * 3, std=(0.5,) * 3), photographs)
    assert found.accuracy == 0.0
    assert any("names of its classes seem to be in another order" in note for note in found.notes)


def test_a_network_that_guesses_is_told_so(photographs: Path) -> None:
    model = by_brightness(mean=(0.5,) * 3, std=(0.5,) * 3)
    with torch.no_grad():
        model.network[2].weight.zero_()  # type: ignore[index, operator, union-attr]
    (note,) = search.check(model, photographs).notes
    assert "20 right of 40 is what guessing among 2 classes gives" in note


def test_what_has_no_classes_cannot_be_checked(photographs: Path) -> None:
    with pytest.raises(UserError, match="no classes to be right or wrong about"):
        search.check(by_brightness(activation="features"), photographs)
    with pytest.raises(UserError, match="none of the images"):
        search.check(by_brightness(("cat", "dog")), photographs)
