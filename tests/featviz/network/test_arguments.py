from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode
from toys import conv_net

from featviz import Model, UserError
from featviz.network.arguments import INTERPOLATIONS
from search.images.decode import central_view


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (64, (64, 64)),
        (np.int64(64), (64, 64)),
        (torch.tensor(64), (64, 64)),
        ((48, 64), (48, 64)),
        (torch.Size([48, 64]), (48, 64)),
        (np.array([48, 64]), (48, 64)),
        ([64], (64, 64)),
        ((3, 48, 64), (48, 64)),
        ({"height": 48, "width": 64}, (48, 64)),
        ({"shortest_edge": 64}, (64, 64)),
    ],
)
def test_sizes_are_understood_as_other_libraries_have_them(given: Any, size: tuple[int, int]) -> None:
    found = Model.wrap(conv_net(), size=given).preprocess.size
    assert found == size
    assert all(type(side) is int for side in found)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": (1, 64, 64)}, "the first is the number of channels, and mean and std give 3"),
        ({"size": (64, 64, 3)}, "the first is the number of channels"),
        ({"size": 0}, "size is one side or"),
        ({"size": 64.5}, "size is one side or .*got 64.5"),
        ({"size": "64"}, "size is one side or"),
        ({"size": True}, "size is one side or"),
        ({"size": {"longest_edge": 64}}, "got a dict of 'longest_edge'"),
        ({"crop": 87.5}, r"got 87\.5\. Did you mean 0\.875\?"),
        ({"crop": 0}, "above 0 and up to 1; got 0"),
        ({"crop": "all"}, "crop takes numbers; got 'all'"),
        ({"std": (0.2, 0, 0.2)}, "each number lies above 0; got 0"),
        ({"std": (0.2, -0.2, 0.2)}, "each number lies above 0"),
        ({"mean": (123.675, 116.28, 103.53)}, r"images are in \[0, 1\], and mean holds 123.675.*divide.*0\.485"),
        ({"std": (58.395, 57.12, 57.375)}, "std holds 58.395"),
        ({"mean": 0.5}, "mean has 1 and std 3"),
        ({"mean": (0.5, float("nan"), 0.5)}, "finite"),
        ({"mean": "imagenet"}, "mean takes numbers; got 'imagenet'"),
        ({"interpolation": "bicubik"}, "no interpolation 'bicubik'; the closest are 'bicubic'"),
        ({"interpolation": 9}, "interpolation is one of nearest"),
        ({"labels": "cat"}, "a single text is not a list of classes"),
        ({"labels": {"cat", "dog"}}, "a set has no order"),
        ({"labels": 3}, "labels are a list of class names; got 3"),
        ({"labels": {0: "cat", 2: "dog"}}, "there is no 1"),
        ({"labels": {1: "cat", "1": "dog"}}, "'1' is there twice"),
        ({"labels": {"a": "cat"}}, "'a' is no class's number"),
        ({"labels": ["cat", None]}, "got None among the labels"),
        ({"name": 5}, "name is a text, such as 'my network'; got 5"),
        ({"name": ""}, "name is a text"),
        ({"default_layer": 3}, "default_layer is a text, such as 'blocks.5'; got 3"),
        ({"default_layer": ("0",)}, "default_layer is a text"),
        ({"logits": True}, "logits is a key or a number, such as 'logits' or 0.*got True"),
        ({"logits": 1.5}, "logits is a key or a number.*got 1.5"),
        ({"logits": ""}, "logits is a key or a number"),
        ({"bands": 7}, "bands takes a name for each input channel.*got 7"),
        ({"show": 1.5}, "show takes one band or three.*got 1.5"),
        ({"default_layer": "blocks.5"}, "no layer 'blocks.5'; the closest are '5'"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Model.wrap(conv_net(), **wrong)
    assert "atlas layers network" not in str(caught.value)


@pytest.mark.parametrize("module", [conv_net().state_dict(), nn.Linear, "resnet50", lambda x: x, None])
def test_what_is_no_network_is_refused_by_its_type(module: Any) -> None:
    with pytest.raises(UserError, match=r"a network is an nn\.Module"):
        Model.wrap(module)


def test_a_scripted_network_is_refused() -> None:
    with warnings.catch_warnings():  # torch is about to give it up
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(nn.Conv2d(3, 2, 1), torch.rand(1, 3, 4, 4))  # type: ignore[no-untyped-call]
    with pytest.raises(UserError, match="wrap the module that it was made of"):
        Model.wrap(scripted)


@pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor, lambda v: torch.tensor(v)[:, None, None]])
def test_numbers_per_channel_come_in_any_container(make: Any) -> None:
    how = Model.wrap(conv_net(), mean=make([0.25, 0.5, 0.75]), std=make([0.5, 0.5, 1.0])).preprocess
    assert (how.mean, how.std) == ((0.25, 0.5, 0.75), (0.5, 0.5, 1.0))


def test_a_single_number_is_one_channel() -> None:
    how = Model.wrap(conv_net(inputs=1), mean=np.float64(0.5), std=torch.tensor(0.25), size=(1, 8, 8)).preprocess
    assert (how.mean, how.std, how.channels, how.size) == ((0.5,), (0.25,), 1, (8, 8))


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (None, ()),
        (("a", "b"), ("a", "b")),
        (np.array(["a", "b"]), ("a", "b")),
        ({1: "b", 0: "a"}, ("a", "b")),
        ({"1": "b", "0": "a"}, ("a", "b")),
        ({"a": 0, "b": 1}, ("a", "b")),
        ({"10": 1, "2": 0}, ("2", "10")),
        (range(2), ("0", "1")),
        ("0123", ("0", "1", "2", "3")),  # a run of signs, which is no word
        ([np.str_("a"), 7], ("a", "7")),
        ((name for name in "ab"), ("a", "b")),
    ],
)
def test_labels_are_understood_as_other_libraries_have_them(given: Any, names: tuple[str, ...]) -> None:
    found = Model.wrap(conv_net(), labels=given).labels
    assert found == names
    assert all(type(name) is str for name in found)


def test_every_interpolation_is_used_by_whatever_name() -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))
    views = {}
    for name in INTERPOLATIONS:
        expected = photo.crop((0, 0, 40, 40)).resize((16, 16), Image.Resampling[name.upper()])
        constants = [Image.Resampling[name.upper()], int(Image.Resampling[name.upper()]), name, f" {name.title()} "]
        if name.upper() in InterpolationMode.__members__:
            constants += [InterpolationMode[name.upper()], str(InterpolationMode[name.upper()])]
        for constant in constants:
            model = Model.wrap(conv_net(), size=16, crop=1, interpolation=constant)
            assert model.preprocess.interpolation == name
            views[name] = central_view(photo.crop((0, 0, 40, 40)), model.preprocess)
            close = (views[name] - torch.from_numpy(np.array(expected)).permute(2, 0, 1) / 255).abs().max()
            assert close < 0.02  # Pillow reduces in two steps
    assert len({view.numpy().tobytes() for view in views.values()}) == len(INTERPOLATIONS)
    assert Model.wrap(conv_net(), interpolation=InterpolationMode.NEAREST_EXACT).preprocess.interpolation == "nearest"


@pytest.mark.parametrize("given", [None, "aux.0", 0, -1, np.int64(1)])
def test_logits_are_a_key_or_a_number(given: Any) -> None:
    assert Model.wrap(conv_net(), logits=given).logits == given


def test_a_default_layer_that_is_there_is_kept() -> None:
    assert Model.wrap(conv_net(), default_layer="5").default_layer == "5"
