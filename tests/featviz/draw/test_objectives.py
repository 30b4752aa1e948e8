from __future__ import annotations

import pytest
import torch
from torch import Tensor

from featviz.draw.objectives import (
    Activations,
    Objective,
    alignment,
    channel,
    class_logit,
    cosine,
    deepdream,
    direction,
    diversity,
    neuron,
    on,
)
from featviz.errors import UserError


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


def test_neuron_and_class_logit_are_channels_by_their_names() -> None:
    maps = torch.randn(2, 4, 3, 5)
    assert torch.equal(neuron("x", [1, 3])(_seen(maps)), torch.stack([maps[0, 1, 1, 2], maps[1, 3, 1, 2]]))
    assert torch.equal(neuron("x", 1, at=(2, 4))(_seen(maps[:1])), maps[:1, 1, 2, 4])
    logits = Activations({"output": maps[:, :, :1, :1]}, torch.zeros(2, 3, 4, 4), torch.arange(2))
    assert torch.equal(class_logit([2, 0])(logits), torch.stack([maps[0, 2, 0, 0], maps[1, 0, 0, 0]]))


def test_deepdream_is_the_mean_square() -> None:
    maps = torch.randn(2, 3, 4, 4)
    assert torch.allclose(deepdream("x")(_seen(maps)), (maps**2).mean((1, 2, 3)))


def test_a_whitened_direction_points_where_the_matrix_sends_it() -> None:
    h, v = torch.randn(3, 4), torch.randn(3, 4)
    matrix = torch.randn(4, 4)
    whitened = direction("x", v, whitening=matrix)(_seen(h[:, :, None, None]))
    assert torch.allclose(whitened, direction("x", v @ matrix)(_seen(h[:, :, None, None])))


def _gram(maps: Tensor) -> Tensor:
    flat = maps.flatten(1)
    return torch.stack([torch.stack([a @ b for b in flat]) for a in flat]).flatten()


def test_diversity_is_the_mean_cosine_of_gram_matrices_within_the_group() -> None:
    maps = torch.randn(6, 3, 4, 5)
    grams = [_gram(entry) for entry in maps]
    for row, score in enumerate(diversity("x", 3)(_seen(maps)).tolist()):
        others = [number for number in range(row // 3 * 3, row // 3 * 3 + 3) if number != row]
        cosines = [torch.cosine_similarity(grams[row], grams[other], dim=0).item() for other in others]
        assert score == pytest.approx(-sum(cosines) / 2, abs=1e-5)
    assert diversity("x", 2)(_seen(maps[:1].repeat(2, 1, 1, 1))).tolist() == pytest.approx([-1, -1])


def test_alignment_weighs_neighbours_by_their_distance_in_the_row() -> None:
    maps = torch.randn(4, 2, 3, 3)
    scores = alignment("x", 4, decay=0.5)(_seen(maps))
    for row in range(4):
        weights = {other: 0.5 ** (abs(row - other) - 1) for other in range(4) if other != row}
        apart = sum(weight * ((maps[row] - maps[other]) ** 2).mean().item() for other, weight in weights.items())
        assert scores[row].item() == pytest.approx(-apart / sum(weights.values()), rel=1e-4)


def test_groups_are_of_two_or_more_and_sums_keep_them_whole() -> None:
    for make in (diversity, alignment):
        with pytest.raises(UserError, match="two or more; got 1"):
            make("x", 1)
    assert (diversity("x", 2) + 3 * diversity("x", 3) - channel("x", 0)).group == 6
