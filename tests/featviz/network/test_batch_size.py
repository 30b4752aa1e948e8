from __future__ import annotations

import pytest
import torch
from toys import toy_model

from featviz.network.batch_size import best_batch, in_halves
from featviz.network.trunk import Trunk


@pytest.mark.parametrize("backward", [False, True])
def test_the_best_batch_is_the_first_doubled_some_times_within_the_bounds(backward: bool) -> None:
    found = best_batch(Trunk(toy_model(), ["4"]), (32, 32), backward=backward, first=4, most=32)
    assert found in (4, 8, 16, 32)
    assert best_batch(Trunk(toy_model(), ["4"]), (32, 32), backward=backward, first=4, most=7) == 4


def test_a_batch_for_which_there_is_no_memory_is_not_taken() -> None:
    model = toy_model()

    class Small(torch.nn.Module):
        """A device of little memory: of more than 8 images, it has none."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if len(images) > 8:
                raise torch.OutOfMemoryError("out of memory")
            return images.sum((2, 3))

    trunk = Trunk(type(model).wrap(Small(), size=32), ["output"])
    assert best_batch(trunk, (32, 32), first=2, most=64) <= 8


def test_halves_are_taken_until_there_is_memory_and_joined_in_order() -> None:
    seen: list[int] = []

    def work(images: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(len(images))
        if len(images) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return {"doubled": images * 2}

    images = torch.arange(10.0)
    assert in_halves(work, images)["doubled"].equal(images * 2)
    assert max(seen[-2:]) <= 3
    with pytest.raises(RuntimeError, match="something else"):
        in_halves(fail, images)


def fail(images: torch.Tensor) -> dict[str, torch.Tensor]:
    raise RuntimeError("something else")
