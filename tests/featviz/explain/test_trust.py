from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from toys import toy_model

from featviz.explain.localisation import strongest_box
from featviz.explain.saliency import saliency
from featviz.explain.target import Target
from featviz.explain.trust import deletion, insertion, randomisation, rank_correlation
from featviz.network.models import Model
from featviz.network.units import Unit


class Corner(nn.Module):
    """One logit: the mean of the upper left quarter; the other is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([8.0]))

    def forward(self, images: Tensor) -> Tensor:
        seen = images[:, :, :16, :16].mean((1, 2, 3)) * self.scale
        return torch.stack([seen, torch.zeros_like(seen)], 1)


def _corner() -> Model:
    return Model.wrap(Corner(), size=32, mean=(0.0,) * 3, std=(1.0,) * 3, labels=["corner", "nothing"])


def _marked(right: bool) -> Tensor:
    found = torch.zeros(8, 8)
    if right:
        found[:4, :4] = 1
    else:
        found[4:, 4:] = 1
    return found


def test_a_true_map_makes_the_class_go_fast_and_come_fast_and_a_false_one_does_not() -> None:
    image = torch.full((3, 32, 32), 0.9)
    image[:, ::2] = 0.5
    target = Target(_corner(), Unit("output", 0))
    black = {"fill": "black"}
    true = deletion(target, image, _marked(True), **black), insertion(target, image, _marked(True), **black)
    false = deletion(target, image, _marked(False), **black), insertion(target, image, _marked(False), **black)
    assert true[0].as_low == 0
    assert true[0].area < true[0].by_chance < false[0].area
    assert true[1].area > true[1].by_chance > false[1].area
    assert true[0].values[0] == pytest.approx(float(target.probabilities(image[None])))
    assert true[0].values[-1] == pytest.approx(0.5)
    # A quarter of the pixels is all that counts: gone by then, and nothing changes after.
    gone = true[0].values[true[0].shares >= 0.3]
    assert gone.numpy() == pytest.approx(0.5, abs=1e-5)


def test_an_empty_map_says_so_and_does_no_better_than_its_shuffles() -> None:
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    target = Target(_corner(), Unit("output", 0))
    curve = deletion(target, image, torch.zeros(8, 8))
    assert curve.flat
    assert not deletion(target, image, _marked(True)).flat


def test_of_a_unit_that_is_no_class_the_curve_is_of_its_activation() -> None:
    target = Target(toy_model(), Unit("3", 1))
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    curve = deletion(target, image, torch.rand(8, 8))
    assert curve.values[0] == pytest.approx(float(target.values(image[None])), abs=1e-6)


def test_a_map_that_comes_from_the_image_alone_stays_and_one_that_comes_from_the_network_goes() -> None:
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    target = Target(toy_model(), Unit("output", 1))
    edges = randomisation(target, lambda other: image[0].mean(0).diff(dim=0).abs())
    assert edges.likeness == pytest.approx([1.0] * len(edges.likeness))
    assert edges.ignores_weights
    learned = randomisation(target, lambda other: saliency(other, image)[0])
    assert not learned.ignores_weights
    assert learned.stages[-1] == "0"
    assert learned.stages[0] == "8"


def test_randomising_leaves_the_model_as_it_was() -> None:
    model = toy_model()
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    image = torch.rand(1, 3, 32, 32)
    randomisation(Target(model, Unit("output", 1)), lambda other: saliency(other, image)[0])
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())


def test_rank_correlation_equals_scipys_with_ties() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randint(0, 6, (9, 11), generator=generator).float() for _ in range(2))
    expected = stats.spearmanr(one.flatten().numpy(), other.flatten().numpy()).statistic
    assert rank_correlation(one, other) == pytest.approx(float(expected))
    assert rank_correlation(one, torch.ones(9, 11)) == 0.0


def test_the_box_holds_the_largest_part_above_a_fifth_of_the_maximum() -> None:
    found = torch.zeros(20, 30)
    found[2:6, 3:9] = 0.5
    found[10:19, 12:25] = 0.21
    found[0, 29] = 1.0
    assert strongest_box(found) == (12, 10, 25, 19)
    assert strongest_box(found, threshold=0.4) == (3, 2, 9, 6)
    assert strongest_box(-found) is None
