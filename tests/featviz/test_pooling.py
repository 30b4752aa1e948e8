from __future__ import annotations

import warnings

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn

from featviz.effects import ClassEffects
from featviz.models import Model
from featviz.pooling import max_pools, relaxed_max_pools


def _stand_in(maps: Tensor) -> Tensor:
    """By hand, for windows of 2 x 2 that do not overlap."""
    windows = maps.unfold(2, 2, 2).unfold(3, 2, 2)
    return windows.square().mean((-1, -2)) / (1e-2 + windows.abs().mean((-1, -2)))


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(5 * 16, 4))


def test_the_value_stays_the_maximum_and_the_derivative_is_the_stand_ins_in_both_modes() -> None:
    pool = nn.Sequential(nn.MaxPool2d(2))
    maps, tangent = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    with relaxed_max_pools(pool) as changed:
        assert changed == 1
        seen = maps.clone().requires_grad_()
        out = pool(seen)
        assert torch.equal(out.detach(), nn.functional.max_pool2d(maps, 2))
        weight = torch.randn_like(out)
        (gradient,) = torch.autograd.grad((out * weight).sum(), seen)
        by_hand = maps.clone().requires_grad_()
        (expected,) = torch.autograd.grad((_stand_in(by_hand) * weight).sum(), by_hand)
        assert torch.allclose(gradient, expected, atol=1e-6)
        with torch.no_grad(), warnings.catch_warnings(), forward_ad.dual_level():
            warnings.simplefilter("ignore")  # torch's own, on its first use of forward derivatives
            moved = forward_ad.unpack_dual(pool(forward_ad.make_dual(maps, tangent)))
            along = forward_ad.unpack_dual(_stand_in(forward_ad.make_dual(maps, tangent)))
        assert torch.equal(moved.primal, out.detach())
        assert torch.allclose(moved.tangent, along.tangent, atol=1e-6)
    assert torch.equal(pool(maps), nn.functional.max_pool2d(maps, 2))
    assert not pool[0]._forward_hooks


def test_pools_with_holes_are_left_alone() -> None:
    assert len(max_pools(nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d(2, dilation=2)))) == 1


def test_relaxed_effects_spread_over_a_window_that_the_plain_ones_take_one_value_of() -> None:
    model = Model.wrap(_network(), size=8)
    images = torch.rand(2, 3, 8, 8)
    every = torch.cartesian_prod(torch.arange(8), torch.arange(8)).expand(2, 64, 2)
    plain, relaxed = (ClassEffects(model, "0", relaxed=each)(images, every) for each in (False, True))
    # A position that is no channel's maximum does nothing; with the smooth derivative every one does something.
    assert (relaxed.abs().sum(2) > 0).all()
    assert (plain.abs().sum(2) == 0).any()
    again = ClassEffects(model, "0")(images, every)
    assert torch.equal(plain, again)
