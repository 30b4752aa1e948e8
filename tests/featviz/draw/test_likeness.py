from __future__ import annotations

import pytest
import torch
from toys import toy_model

from featviz import UserError, maximize
from featviz.draw.likeness import likeness
from featviz.draw.objectives import Activations, channel
from featviz.network.trunk import Trunk


def _photographs(count: int, seed: int) -> torch.Tensor:
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear")


def test_a_photograph_is_like_itself_wherever_its_parts_lie_and_not_like_others() -> None:
    model, photographs = toy_model(), _photographs(3, 0)
    wish = likeness(model, "4", [each[None] for each in photographs])
    trunk = Trunk(model, wish.layers)
    own, turned, others = (
        wish(Activations(trunk(images), images, torch.arange(3)))
        for images in (photographs, photographs.roll(4, 3), photographs.roll(1, 0))
    )
    assert own.abs().max() < 1e-3
    assert (others < -0.1).all()
    assert (turned > others).all()


def test_pictures_drawn_like_photographs_are_liker_them_and_still_excite_the_unit() -> None:
    model, photographs = toy_model(), [_photographs(4, seed) for seed in (0, 1)]
    wish, like = channel("4", [0, 1]), likeness(model, "4", photographs)
    how = {"size": 32, "steps": 60}
    free, drawn = (maximize(model, wish, prior=prior, **how) for prior in (None, 2 * like))  # type: ignore[arg-type]
    begun = maximize(model, wish, size=32, steps=1)
    trunk = Trunk(model, like.layers)

    def measured(images: torch.Tensor) -> torch.Tensor:
        seen = images.float() / 255
        return like(Activations(trunk(seen), seen, torch.arange(2)))

    assert (measured(drawn.images) > measured(free.images)).all()
    assert (drawn.clean > begun.clean).all()


def test_pictures_without_photographs_are_refused() -> None:
    with pytest.raises(UserError, match="at least one photograph"):
        likeness(toy_model(), "4", [torch.zeros(0, 3, 32, 32)])
