from __future__ import annotations

import pytest
import torch
from torch import Tensor

from featviz.errors import UserError
from featviz.objectives import Activations, Objective, channel, cosine, direction, on


def _seen(maps: Tensor, index: list[int] | None = None) -> Activations:
    return Activations(
        {"x": maps}, torch.zeros(len(maps), 3, 4, 4), torch.tensor(index or list(range(len(maps)))).long()
    )


def test_a_difference_and_a_weighted_sum_are_what_arithmetic_says() -> None:
    maps = torch.randn(1, 3, 2, 2)
    a, b = maps[0, 0].mean(), maps[0, 1].mean()
    first, second = channel("x", 0), channel("x", 1)
    assert torch.allclose((first - second)(_seen(maps)), (a - b)[None])
    assert torch.allclose((2 * first + second * 3 - 4 * first)(_seen(maps)), (3 * b - 2 * a)[None], atol=1e-6)
    assert torch.allclose((-(first + 2 * second))(_seen(maps)), (-a - 2 * b)[None], atol=1e-6)


def test_arithmetic_leaves_its_operands_alone() -> None:
    maps = torch.randn(1, 2, 2, 2)
    first = channel("x", 0)
    before = first(_seen(maps))
    _ = 5 * first - channel("x", 1)
    assert torch.equal(first(_seen(maps)), before)


def test_a_channel_is_its_spatial_mean_and_a_neuron_its_value() -> None:
    maps = torch.arange(2 * 2 * 3 * 5).float().reshape(2, 2, 3, 5)
    assert torch.equal(channel("x", [1, 0])(_seen(maps)), torch.stack([maps[0, 1].mean(), maps[1, 0].mean()]))
    assert torch.equal(channel("x", 1, at="center")(_seen(maps[:1])), maps[:1, 1, 1, 2])
    assert torch.equal(channel("x", 1, at=(2, 0))(_seen(maps[:1])), maps[:1, 1, 2, 0])


def test_pictures_in_any_order_keep_their_own_target() -> None:
    maps = torch.randn(3, 4, 2, 2)
    scores = channel("x", [3, 1, 0, 2])(_seen(maps, [2, 0, 2]))
    assert torch.equal(scores, torch.stack([maps[0, 0].mean(), maps[1, 3].mean(), maps[2, 0].mean()]))


@pytest.mark.parametrize("length", [0.01, 1.0, 100.0])
def test_direction_is_dot_times_the_true_cosine_whatever_the_vectors_length(length: float) -> None:
    h, v = torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0]) * length
    scores = direction("x", v[None], power=2)(_seen(h.view(1, 2, 1, 1)))
    assert scores.item() == pytest.approx(3.0 * (3 / 5) ** 2, rel=1e-5)


def test_a_direction_that_points_away_scores_below_zero_and_still_has_a_gradient() -> None:
    h = torch.tensor([-3.0, 4.0]).view(1, 2, 1, 1).requires_grad_()
    score = direction("x", torch.tensor([[1.0, 0.0]]), power=4, floor=0.1)(_seen(h))
    score.sum().backward()  # type: ignore[no-untyped-call]
    assert score.item() == pytest.approx(-3 * 0.1**4)
    assert h.grad is not None
    assert h.grad[0, 0, 0, 0] > 0


def test_power_zero_is_the_plain_dot_product() -> None:
    h = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    assert direction("x", torch.tensor([[0.0, 2.0]]), power=0)(_seen(h)).item() == pytest.approx(4)


def test_cosine_is_one_along_the_vector_and_minus_one_against_it() -> None:
    maps = torch.tensor([[2.0, 0.0], [-3.0, 0.0], [0.0, 1.0]]).view(3, 2, 1, 1)
    vectors = torch.tensor([[5.0, 0.0]]).expand(3, 2)
    assert cosine("x", vectors)(_seen(maps)).tolist() == pytest.approx([1, -1, 0])


def test_any_function_of_activations_is_an_objective() -> None:
    maps = torch.randn(2, 3, 4, 4)
    assert torch.equal(on("x", lambda h: h.amax((1, 2, 3)))(_seen(maps)), maps.amax((1, 2, 3)))


def test_a_wrong_shape_is_named() -> None:
    with pytest.raises(UserError, match=r"shape \(2,\); got \(2, 3, 4, 4\)"):
        on("x", lambda h: h)(_seen(torch.zeros(2, 3, 4, 4)))


def test_objectives_of_different_numbers_of_pictures_do_not_add() -> None:
    with pytest.raises(UserError, match="2 and 3 pictures"):
        channel("x", [0, 1]) + channel("x", [0, 1, 2])
    both = channel("x", [0, 1]) + on("y", lambda h: h.mean((1, 2, 3)))
    assert (both.count, both.layers) == (2, ("x", "y"))
    assert isinstance(both, Objective)
