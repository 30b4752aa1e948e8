from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from toys import toy_model

from featviz.draw.objectives import Activations, of_units
from featviz.errors import UserError
from featviz.explain.target import Target
from featviz.network.models import Model
from featviz.network.trunk import Trunk
from featviz.network.units import Place, Unit, parse_units


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
    scores = of_units(units, Trunk(model, ["5"]))(
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


def test_what_a_network_returns_is_no_class_where_it_has_no_names() -> None:
    nameless = replace(toy_model(), labels=())
    assert [str(unit) for unit in parse_units("-output:0-1", nameless)] == ["-output:0", "-output:1"]
    assert [str(unit) for unit in parse_units("output:0", toy_model())] == ["class:0"]
    assert parse_units("output:0", nameless) == parse_units("class:0", nameless)


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
    wanted = of_units([Unit("0", 2), Unit("0", 0, None, -1)], Trunk(model, ["0"]))
    scores = wanted(Activations({"0": maps}, torch.zeros(2, 3, 4, 4), torch.tensor([0, 1])))
    assert scores.tolist() == [maps[0, 2].mean().item(), -maps[1, 0].mean().item()]


def test_units_of_two_layers_make_no_single_objective() -> None:
    with pytest.raises(UserError, match="one layer"):
        of_units([Unit("0", 0), Unit("3", 0)], Trunk(toy_model(), ["0", "3"]))


class Named(nn.Module):
    """A network of layers of these names, whose outputs are four numbers."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names
        for name in names:
            self.add_module(name, nn.Identity())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = images.mean((2, 3))
        values = torch.cat([pooled, pooled[:, :1]], 1)
        for name in self.names:
            values = self._modules[name](values)  # type: ignore[misc]
        return values


# Names from the signs that addresses are made of; `output` is what the network returns.
NASTY = st.text(alphabet="a1:@*?[]!#'\" -,=/β", min_size=1, max_size=6) | st.sampled_from(
    ["class", "class:a", "-a", "a:1", "a:1@0,0", "output:1", "'a'", "center"]
)


@settings(max_examples=30, deadline=None)
@given(
    names=st.lists(NASTY, min_size=1, max_size=4, unique=True),
    channel=st.integers(0, 3),
    place=st.sampled_from([None, "center", (0, 0)]),
    sign=st.sampled_from([1, -1]),
)
def test_what_a_unit_prints_is_that_unit_again_whatever_its_layer_is_called(
    names: list[str], channel: int, place: Place, sign: Literal[1, -1]
) -> None:
    model = Model.wrap(Named(*names), size=4, activation="none")
    for name in [*names, "output"]:
        unit = Unit(name, channel, place, sign)
        assert parse_units(str(unit), model) == [unit]


def test_a_name_wins_over_a_glob_and_the_longest_over_shorter_ones() -> None:
    model = Model.wrap(Named("q*", "qx", "a", "a:b", "[c]", "c", "w@1", "-n", "class", "output:1"), size=4)
    read = {
        "q*:1": ["q*"], "q?:1": ["q*", "qx"], "a:1": ["a"], "a:b:1": ["a:b"], "'a:b':1": ["a:b"], '"a":1': ["a"],
        "[c]:1": ["[c]"], "w@1:1": ["w@1"], "-n:1": ["-n"], "'-n':1": ["-n"], "'class':1": ["class"],
        "output:1": ["output"], "output:1:1": ["output:1"],
    }  # fmt: skip
    for text, layers in read.items():
        assert [(unit.layer, unit.channel, unit.sign) for unit in parse_units(text, model)] == [
            (layer, 1, 1) for layer in layers
        ]
    assert parse_units("-'a:b':1@center", model) == [Unit("a:b", 1, "center", -1)]
    for text in ("'q?':1", "'a':9", "'nothing':1"):  # in quotes, no glob
        with pytest.raises(UserError):
            parse_units(text, model)
    with pytest.raises(UserError) as caught:
        parse_units("z:1", model)
    assert "atlas layers network" not in str(caught.value)


def test_a_layer_is_in_quotes_where_it_would_be_read_as_another() -> None:
    model = Model.wrap(Named("a", "-a", "class", "class:a", "'a'", "a "), size=4, labels=["a", "b", "c", "1"])
    units = [Unit(name, 1, None, sign) for name in model.network.names for sign in (1, -1)]  # type: ignore[union-attr]
    assert [parse_units(str(unit), model) for unit in units] == [[unit] for unit in units]


def test_a_file_of_directions_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = Model.wrap(Named("a", "a:b"), size=4)
    file = Path("b:v@1,1#2.npy")
    np.save(file, np.eye(4, dtype=np.float32))
    for place in (None, "center"):
        unit = Unit("a", 3, place, 1, str(file))  # type: ignore[arg-type]
        assert parse_units(str(unit), model) == [unit]


def test_a_class_of_a_network_of_maps_is_a_channel_of_what_it_returns() -> None:
    labels = ["road", "sky", "car@1,1", "2"]
    model = Model.wrap(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)).eval(), size=8, labels=labels)
    assert parse_units("class:sky", model) == [Unit("output", 1)]
    assert parse_units("-class:sky@2,3", model) == [Unit("output", 1, (2, 3), -1)]
    assert parse_units("class:#1@center", model) == parse_units("output:1@center", model)
    assert parse_units("class:car@1,1", model) == parse_units("class:=car@1,1", model) == [Unit("output", 2)]
    assert parse_units("class:car@1,1@0,0", model) == [Unit("output", 2, (0, 0))]
    with pytest.raises(UserError, match="outside the layer's map of 8 rows"):
        parse_units("class:sky@8,0", model)
    for text, value in {"class:sky": lambda m: m.mean((1, 2)), "class:sky@2,3": lambda m: m[:, 2, 3]}.items():
        images, (unit,) = torch.rand(2, 3, 8, 8), parse_units(text, model)
        wanted = model.network(model.preprocess.normalize(images))[:, 1]
        assert torch.allclose(Target(model, unit)(images), value(wanted), atol=1e-5)


def test_a_class_whose_number_is_another_ones_name_prints_so_that_it_can_be_read() -> None:
    model = Model.wrap(Named("a"), size=4, labels=["1", "2", "3", "4"])
    with pytest.raises(UserError, match="'#2' for the number or '=2' for the name"):
        parse_units("class:2", model)
    for text, number in {"class:#2": 2, "class:=2": 1, "-class:=4": 3}.items():
        (unit,) = parse_units(text, model)
        assert unit.channel == number
        assert parse_units(str(unit), model) == [unit]
