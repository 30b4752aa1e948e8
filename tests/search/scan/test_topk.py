from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from featviz.errors import UserError
from search.scan.topk import Ranking, RunningTopK

# Few distinct values, so that ties abound, and all that floating point knows besides.
VALUES = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 2.0, float("inf"), float("-inf"), float("nan")])


def _matrix(draw: st.DrawFn) -> Tensor:
    images, units = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    return torch.tensor(draw(st.lists(VALUES, min_size=images * units, max_size=images * units))).view(images, units)


def _sorted(values: Tensor, k: int, *, largest: bool) -> list[list[tuple[float, int]]]:
    """Unit by unit the best (value, image), by Python's own sort."""
    best = []
    for column in values.T.tolist():
        pairs = [(value, image) for image, value in enumerate(column) if value == value]
        best.append(sorted(pairs, key=lambda pair: (-pair[0] if largest else pair[0], pair[1]))[:k])
    return best


def _pairs(ranking: Ranking) -> list[list[tuple[float, int]]]:
    return [
        [(value, image) for value, image in zip(row, images, strict=True) if image >= 0]
        for row, images in zip(ranking.values.tolist(), ranking.index.tolist(), strict=True)
    ]


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_running_topk_equals_sorting_everything_in_any_batches_and_any_order(data: st.DataObject) -> None:
    values = data.draw(st.composite(_matrix)())
    k, largest = data.draw(st.integers(1, 5)), data.draw(st.booleans())
    order = data.draw(st.permutations(range(len(values))))
    running = RunningTopK(k, largest=largest)
    while order:
        size = data.draw(st.integers(1, 5))
        part, order = order[:size], order[size:]
        running.update(values[part], torch.tensor(part))
    assert _pairs(running.ranking()) == _sorted(values, k, largest=largest)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_merged_shards_equal_sorting_everything(data: st.DataObject) -> None:
    values = data.draw(st.composite(_matrix)())
    k, largest = data.draw(st.integers(1, 5)), data.draw(st.booleans())
    shard_of = [data.draw(st.integers(0, 2)) for _ in values]
    shards = []
    for number in data.draw(st.permutations(range(3))):
        shard, part = RunningTopK(k, largest=largest), [i for i, own in enumerate(shard_of) if own == number]
        if part:
            shard.update(values[part], torch.tensor(part))
        resumed = RunningTopK(k, largest=largest)
        resumed.load(shard.state())
        shards.append(resumed)
    first, second, third = shards
    second.merge(third)
    first.merge(second)
    assert _pairs(first.ranking()) == _sorted(values, k, largest=largest)


def test_positions_are_asked_for_once_and_only_for_what_enters() -> None:
    asked: list[tuple[int, int]] = []
    values = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    running = RunningTopK(3)
    for start in range(0, 40, 8):

        def position(rows: Tensor, units: Tensor, start: int = start) -> Tensor:
            asked.extend((start + int(row), int(unit)) for row, unit in zip(rows, units, strict=True))
            return (start + rows) * 100 + units

        running.update(values[start : start + 8], torch.arange(start, start + 8), position)
    ranking = running.ranking()
    assert torch.equal(ranking.position, ranking.index * 100 + torch.arange(6)[:, None])
    assert len(asked) == len(set(asked)) < 40 * 6 / 2


def test_a_unit_that_is_always_negative_names_its_true_images() -> None:
    running = RunningTopK(2)
    running.update(torch.tensor([[-5.0], [-3.0], [-4.0]]), torch.arange(3))
    assert running.ranking().index.tolist() == [[1, 2]]


def test_fewer_images_than_k_leave_places_empty() -> None:
    running = RunningTopK(4)
    running.update(torch.tensor([[1.0, torch.nan]]), torch.tensor([7]))
    found = running.ranking()
    assert found.index.tolist() == [[7, -1, -1, -1], [-1, -1, -1, -1]]
    assert found.position.tolist() == [[-1] * 4] * 2
    assert found.values[0, 0] == 1
    assert found.values[:, 1:].isnan().all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="k starts at 1"):
        RunningTopK(0)
    running = RunningTopK(2)
    running.update(torch.zeros(1, 3), torch.zeros(1, dtype=torch.long))
    with pytest.raises(UserError, match="holds 3 units; got values of 4"):
        running.update(torch.zeros(1, 4), torch.zeros(1, dtype=torch.long))
    with pytest.raises(UserError, match="cannot be merged"):
        running.merge(RunningTopK(3))
