from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toys import toy_model

from featviz.errors import UserError
from featviz.models import Model
from featviz.objectives import Activations
from featviz.trunk import Trunk
from featviz.units import Unit, objective, parse_units


def test_every_form_of_a_unit_is_read() -> None:
    model = toy_model()
    assert parse_units("5:2", model) == [Unit("5", 2)]
    assert parse_units("-5:2", model) == [Unit("5", 2, None, -1)]
    assert parse_units("5:2@3,4", model) == [Unit("5", 2, (3, 4))]
    assert parse_units("5:2@center", model) == [Unit("5", 2, "center")]
    assert [unit.channel for unit in parse_units("5:0-2,5,1", model)] == [0, 1, 2, 5]
    assert len(parse_units("5:*", model)) == 6
    assert [unit.layer for unit in parse_units("[02]:0", model)] == ["0", "2"]
    assert parse_units("class:c", model) == parse_units("class:2", model) == [Unit("output", 2)]
    assert parse_units("-class:b", model) == [Unit("output", 1, None, -1)]


def test_a_direction_is_a_row_of_a_file(tmp_path: Path) -> None:
    model = toy_model()
    vectors = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    np.save(tmp_path / "v.npy", vectors)
    units = parse_units(f"5:{tmp_path / 'v.npy'}#0-1@center", model)
    assert [unit.channel for unit in units] == [0, 1]
    assert str(units[1]) == f"5:{tmp_path / 'v.npy'}#1@center"
    maps = torch.randn(2, 6, 4, 4)
    scores = objective(units, Trunk(model, ["5"]))(
        Activations({"5": maps}, torch.zeros(2, 3, 16, 16), torch.tensor([0, 1]))
    )
    expected = (maps[:, :, 2, 2] * torch.from_numpy(vectors[:2])).sum(1)
    assert torch.allclose(scores, expected, atol=1e-5)
    np.save(tmp_path / "short.npy", vectors[:, :4])
    with pytest.raises(UserError, match="vectors of 4 numbers; 5 has 6"):
        parse_units(f"5:{tmp_path / 'short.npy'}#0", model)[0].direction(6)
    with pytest.raises(UserError, match=r"is no \.npy file"):
        parse_units(f"5:{tmp_path / 'absent.npy'}#0", model)


@pytest.mark.parametrize("text", ["class:3", "-class:0", "5:2", "-5:0", "5:1@7,0", "-5:3@center"])
def test_a_unit_prints_as_it_is_written(text: str) -> None:
    assert [str(unit) for unit in parse_units(text, toy_model())] == [text]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5:6", "channel 6: 5 has channels 0 to 5"),
        ("5:3-9", "channel 9: 5 has channels 0 to 5"),
        ("9:0", "no layer '9'; the closest are"),
        ("5", "'5' is no unit"),
        ("5:x", "'x' in '5:x' is no channel"),
        ("5:0@8,0", "outside the layer's map of 8 rows and 8 columns"),
        ("5:0@here", "'here' in '5:0@here' is no position"),
    ],
)
def test_words_that_name_nothing_say_what_is_possible(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_units(text, toy_model())


def test_the_objective_of_units_reads_each_pictures_own_channel_and_sign() -> None:
    maps = torch.arange(2 * 3 * 2 * 2).float().reshape(2, 3, 2, 2)
    model = Model.wrap(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1)), size=4)
    wanted = objective([Unit("0", 2), Unit("0", 0, None, -1)], Trunk(model, ["0"]))
    scores = wanted(Activations({"0": maps}, torch.zeros(2, 3, 4, 4), torch.tensor([0, 1])))
    assert scores.tolist() == [maps[0, 2].mean().item(), -maps[1, 0].mean().item()]


def test_units_of_two_layers_make_no_single_objective() -> None:
    with pytest.raises(UserError, match="one layer"):
        objective([Unit("0", 0), Unit("3", 0)], Trunk(toy_model(), ["0", "3"]))
