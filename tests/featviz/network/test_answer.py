from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featviz import Model
from featviz.errors import UserError
from featviz.explain.target import Target
from featviz.network.about import stated
from featviz.network.answer import answer_of
from featviz.network.effects import class_effects
from featviz.network.layers import OUTPUT
from featviz.network.trunk import Trunk
from featviz.network.units import Unit, parse_units


def network(*end: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    pooled = (nn.Conv2d(3, 12, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*pooled, nn.Linear(12, 7), *end).eval()


class Functional(nn.Module):
    def __init__(self, end: Any) -> None:
        super().__init__()
        self.inner, self.end = network(), end

    def forward(self, images: Tensor) -> Any:
        return self.end(self.inner(images))


@pytest.mark.parametrize(
    ("end", "activation"),
    [
        (lambda logits: logits, "none"),
        (lambda logits: logits.softmax(1), "softmax"),
        (lambda logits: F.log_softmax(logits, 1), "log_softmax"),
        (torch.sigmoid, "sigmoid"),
        (lambda logits: logits.sigmoid(), "sigmoid"),
        (nn.Sigmoid(), "sigmoid"),
        (lambda logits: F.normalize(logits), "features"),
        (lambda logits: logits * 0.1, "none"),
    ],
)
def test_what_a_network_ends_in_is_found_and_its_logits_are_read_before_it(end: Any, activation: str) -> None:
    model = Model.wrap(Functional(end).eval(), size=32)
    answer = answer_of(model)
    assert answer.activation == activation
    if activation == "features":
        return
    image = torch.rand(2, 3, 32, 32)
    logits = model.network.inner(model.preprocess.normalize(image))
    target = Target(model, Unit(OUTPUT, 3))
    scale = 0.1 if activation == "none" and not torch.equal(end(logits), logits) else 1.0
    assert torch.allclose(target.values(image), logits[:, 3].detach() * scale, atol=1e-5)
    told = target.probabilities(image)
    assert told is not None
    own = end(logits).detach()
    expected = {"none": own.softmax(1), "log_softmax": own.exp()}.get(activation, own)
    assert torch.allclose(told, expected[:, 3], atol=1e-5)


def test_a_sigmoid_over_what_is_not_linear_is_a_probability_as_it_is() -> None:
    model = Model.wrap(Functional(lambda logits: (logits.square() - 1).sigmoid()).eval(), size=32)
    image = torch.rand(1, 3, 32, 32)
    told = Target(model, Unit(OUTPUT, 2)).probabilities(image)
    own = model.network(model.preprocess.normalize(image))[:, 2]
    assert told is not None
    assert torch.allclose(told, own.detach(), atol=1e-5)


@pytest.mark.parametrize("stated_as", ["features", "none"])
def test_what_the_user_states_counts_for_more_than_what_is_found(stated_as: Any) -> None:
    model = Model.wrap(network(), size=32, activation=stated_as)
    assert answer_of(model).activation == stated_as
    assert answer_of(model).found == "stated"
    with pytest.raises(UserError, match="no activation 'relu'"):
        Model.wrap(network(), activation="relu")  # type: ignore[arg-type]


def test_features_are_no_classes() -> None:
    torch.manual_seed(0)
    bare = nn.Sequential(nn.Conv2d(3, 12, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    model = Model.wrap(bare, size=32)
    with pytest.raises(UserError, match="12 features, not classes"):
        parse_units("class:3", model)
    assert class_effects(model, "1", torch.zeros(12)) is None
    assert Target(model, Unit(OUTPUT, 3)).probabilities(torch.rand(1, 3, 32, 32)) is None
    assert parse_units("output:3", model) == [Unit(OUTPUT, 3)]


@dataclass
class Result:
    loss: Tensor | None
    logits: Tensor


LOGITS = 7
RESULTS: list[tuple[Any, str]] = [
    (lambda logits: (logits, torch.ones(len(logits), 30)), "made by a linear layer"),
    (lambda logits: [torch.ones(len(logits), 30), logits], "made by a linear layer"),
    (lambda logits: {"logits": logits, "aux": logits * 2}, "by its key"),
    (lambda logits: OrderedDict(out=logits, aux=logits * 2), "by its key"),
    (lambda logits: Result(None, logits), "a data class"),
    (lambda logits: {"a": {"scores": logits}}, "the only tensor"),
]


@pytest.mark.parametrize(("end", "why"), RESULTS, ids=[why for _, why in RESULTS])
def test_the_logits_are_found_in_whatever_is_returned(end: Any, why: str) -> None:
    model = Model.wrap(Functional(end).eval(), size=32)
    image = torch.rand(2, 3, 32, 32)
    expected = model.network.inner(model.preprocess.normalize(image))
    assert torch.allclose(Trunk(model, [OUTPUT])(image)[OUTPUT].flatten(1), expected, atol=1e-5), why
    assert answer_of(model).classes == LOGITS


def test_several_results_that_nothing_tells_apart_are_asked_for() -> None:
    ends = Functional(lambda logits: (logits + 1, logits * 2)).eval()
    with pytest.raises(UserError, match=r"several results \(0 \(7,\), 1 \(7,\)\).*logits=0"):
        Trunk(Model.wrap(ends, size=32), [OUTPUT]).map_size(OUTPUT)
    image = torch.rand(1, 3, 32, 32)
    model = Model.wrap(ends, size=32, logits=1)
    expected = ends.inner(model.preprocess.normalize(image)) * 2
    assert torch.allclose(Trunk(model, [OUTPUT])(image)[OUTPUT].flatten(1), expected, atol=1e-5)
    with pytest.raises(UserError, match="logits='2' is not in what the network returns; it holds '0', '1'"):
        Trunk(Model.wrap(ends, size=32, logits=2), [OUTPUT]).map_size(OUTPUT)


def test_of_several_the_one_with_as_many_numbers_as_there_are_names_holds_the_logits() -> None:
    both = Functional(lambda logits: (torch.cat([logits, logits], 1), logits + 1)).eval()
    assert Trunk(Model.wrap(both, size=32, labels="abcdefg"), [OUTPUT]).map_size(OUTPUT)[0] == LOGITS


def test_effects_on_a_class_that_has_places_are_those_on_its_mean() -> None:
    torch.manual_seed(0)
    segments = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    model = Model.wrap(segments, size=16, labels="abcd", mean=(0.0,) * 3, std=(1.0,) * 3)
    image, usual = torch.rand(1, 3, 16, 16), torch.full((8,), 0.3)
    effects = class_effects(model, "1", usual)
    assert effects is not None
    maps = segments[1](segments[0](image))
    changed = maps.clone()
    changed[0, :, 2, 5] = usual
    expected = (segments[2](maps) - segments[2](changed)).mean((2, 3))
    assert torch.allclose(effects(image, torch.tensor([[[2, 5]]]))[0], expected.detach(), atol=1e-6)


def test_a_network_states_what_it_is() -> None:
    model = Model.wrap(network(nn.Sigmoid()), name="mine", size=32)
    found = stated(model, ["0", "4"])
    assert found["input"] == {"channels": 3, "size": [32, 32], "other_sizes": True, "dtype": "float32"}
    assert found["result"] == "7 sigmoid of logits, logits read at 4 (its values)"
    assert found["layers"] == {
        "0": "(n, c, h, w), by the module that makes it",
        "4": "(n, c), by one number per channel",
    }
    assert str(model).splitlines() == [
        "mine: Sequential, float32",
        "takes 3 channels of 32 x 32 pixels (other sizes, too)",
        "returns 7 sigmoid of logits, logits read at 4 (its values)",
    ]


@pytest.mark.parametrize(
    ("end", "activation", "found"),
    [
        (nn.Identity(), "none", "a map"),
        (nn.Softmax(1), "softmax", "its values"),
        (nn.LogSoftmax(1), "log_softmax", "its values"),
        (nn.Sigmoid(), "sigmoid", "its values"),
        (nn.ReLU(), "features", "never below 0, as behind a ReLU"),
    ],
)
def test_what_a_map_is_shows_in_its_values(end: nn.Module, activation: str, found: str) -> None:
    torch.manual_seed(0)
    answer = answer_of(Model.wrap(nn.Sequential(nn.Conv2d(3, 5, 3), end).eval(), size=16))
    assert (answer.activation, answer.found, answer.grid) == (activation, found, (14, 14))


def test_what_comes_out_of_a_rectifier_is_no_logits_unless_it_has_names() -> None:
    rectified = network(nn.ReLU())
    rectified.get_submodule("4").bias.data += torch.linspace(-1, 1, 7)
    assert answer_of(Model.wrap(rectified, size=32)).activation == "features"
    assert answer_of(Model.wrap(rectified, size=32, labels=list("abcdefg"))).activation == "none"


def test_one_logit_is_called_one() -> None:
    model = Model.wrap(nn.Conv2d(1, 1, 3).eval(), size=16, mean=(0.5,), std=(0.5,))
    assert "takes 1 channel of 16 x 16" in str(model)
    assert "returns 1 logit at 14 x 14 places (a map)" in str(model)
