from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featviz.draw.maximize import maximize
from featviz.draw.objectives import Activations, Objective, on
from featviz.draw.penalties import blur, boundary, l1, l2, total_variation
from featviz.draw.transforms import Affine
from featviz.errors import UserError
from featviz.network.models import Model

EVERY = {"l1": l1(), "l2": l2(), "total_variation": total_variation(), "blur": blur(), "boundary": boundary(width=3)}


def _seen(images: Tensor) -> Activations:
    return Activations({}, images, torch.arange(len(images)))


def _images(count: int = 2, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, 9, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_norms_equal_a_sum_over_the_values() -> None:
    images = _images()
    for number, image in enumerate(images):
        flat = [value - 0.25 for value in image.flatten().tolist()]
        assert l1(around=0.25)(_seen(images))[number].item() == pytest.approx(sum(abs(value) for value in flat))
        assert l2(around=0.25)(_seen(images))[number].item() == pytest.approx(sum(value**2 for value in flat))


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_total_variation_equals_a_walk_over_the_neighbours(power: float) -> None:
    image = _images(1, 2)[0]
    expected = 0.0
    for c in range(2):
        for y in range(9):
            for x in range(7):
                expected += abs(image[c, y, x] - image[c, y + 1, x]).item() ** power if y < 8 else 0.0
                expected += abs(image[c, y, x] - image[c, y, x + 1]).item() ** power if x < 6 else 0.0
    assert total_variation(power=power)(_seen(image[None])).item() == pytest.approx(expected)


def test_blur_compares_with_the_weighted_mean_of_the_neighbours() -> None:
    image = _images(1, 1)[0, 0]
    around = F.pad(image[None, None], (1, 1, 1, 1), mode="reflect")[0, 0]
    weights = {(dy, dx): (2 - abs(dy)) * (2 - abs(dx)) / 16 for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
    expected = 0.0
    for y in range(9):
        for x in range(7):
            mean = sum(weight * around[y + 1 + dy, x + 1 + dx].item() for (dy, dx), weight in weights.items())
            expected += (image[y, x].item() - mean) ** 2
    assert blur()(_seen(image[None, None])).item() == pytest.approx(expected)


def test_following_the_blurs_gradient_blurs() -> None:
    image = _images(1, 1).requires_grad_()
    blur()(_seen(image)).sum().backward()  # type: ignore[no-untyped-call]
    assert image.grad is not None
    moved = (image - 0.5 * image.grad).detach()
    kernel = torch.outer(torch.tensor([0.25, 0.5, 0.25]), torch.tensor([0.25, 0.5, 0.25])).double()[None, None]
    blurred = F.conv2d(F.pad(image.detach(), (1, 1, 1, 1), mode="reflect"), kernel)
    assert torch.allclose(moved, blurred)


def test_the_boundary_counts_its_border_alone() -> None:
    image = torch.full((1, 3, 10, 12), 0.5)
    image[:, :, 3:-3, 3:-3] = 1
    assert boundary(width=3)(_seen(image)).item() == 0
    image[0, 0, 2, 5] = 0.7
    assert boundary(width=3)(_seen(image)).item() == pytest.approx(0.04)
    with pytest.raises(UserError, match="at least one pixel wide"):
        boundary(width=0)


@pytest.mark.parametrize("name", EVERY)
def test_a_penalty_is_never_negative_and_nothing_on_plain_grey(name: str) -> None:
    assert EVERY[name](_seen(_images())).min() > 0
    assert EVERY[name](_seen(torch.full((1, 3, 9, 7), 0.5))).item() == pytest.approx(0)


class _Linear(nn.Module):
    """One unit: the sum of the image's values times a pattern."""

    def __init__(self, pattern: Tensor) -> None:
        super().__init__()
        self.pattern, self.out = pattern, nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.out((images * self.pattern).sum((1, 2, 3))[:, None])
        return out


def test_score_less_lambda_times_squared_norm_has_its_closed_form_optimum() -> None:
    """s(x) = w.x with penalty lambda |x - 1/2|^2 is best at x = 1/2 + w / (2 lambda)."""
    pattern = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    model = Model.wrap(_Linear(pattern), size=16, mean=(0.0,), std=(1.0,))
    wanted = on("out", lambda maps: maps[:, 0, 0, 0]) - 3.0 * l2()
    made = maximize(model, wanted, size=16, steps=300, lr=0.05, transform=Affine(), canvas="pixel")
    assert torch.allclose(made.images[0] / 255, 0.5 + pattern / 6, atol=0.01)


@pytest.mark.parametrize("name", EVERY)
def test_every_penalty_alone_can_be_brought_down(name: str) -> None:
    model = Model.wrap(nn.Identity(), size=16, mean=(0.0,), std=(1.0,))
    start = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(1))
    wanted: Objective = -EVERY[name]
    short, long = (
        maximize(model, wanted, size=16, steps=n, lr=0.05, canvas="pixel", start=start).clean for n in (1, 60)
    )
    assert long.item() > 0.7 * short.item()
