from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from search.scan.sampled import SampledValues, scattered


def _values(numbers: torch.Tensor) -> torch.Tensor:
    return torch.stack([numbers.float(), -numbers.float()], 1)


def _drawn(found: SampledValues) -> list[int]:
    state = found.state()
    numbers: list[int] = state["index"].tolist()
    assert numbers == sorted(set(numbers))
    assert torch.equal(state["values"], _values(state["index"])) or not numbers
    return numbers


@settings(deadline=None, max_examples=60)
@given(st.permutations(range(40)), st.integers(1, 50), st.integers(1, 9), st.integers(1, 4))
def test_the_sample_depends_on_the_images_alone(order: list[int], count: int, batch: int, shards: int) -> None:
    whole = SampledValues(count)
    whole.add(_values(torch.arange(40)), torch.arange(40))
    parts = [SampledValues(count) for _ in range(shards)]
    for start in range(0, 40, batch):
        numbers = torch.tensor(order[start : start + batch])
        parts[start % shards].add(_values(numbers), numbers)
    resumed = SampledValues(count)
    resumed.load(parts[0].state())
    for part in parts[1:]:
        resumed.merge(part)
    assert _drawn(resumed) == _drawn(whole)
    assert len(_drawn(whole)) == min(count, 40)


def test_what_is_drawn_is_the_smallest_scattered_numbers_and_memory_stays_bounded() -> None:
    found = SampledValues(50)
    for numbers in torch.arange(5000).split(64):
        found.add(_values(numbers), numbers)
        assert found._held <= 2 * 50
    expected = sorted(np.argsort(scattered(np.arange(5000)))[:50].tolist())
    assert _drawn(found) == expected


def test_scattered_numbers_are_all_different_and_without_a_pattern() -> None:
    places = scattered(np.arange(100_000)) / 2.0**64
    assert len(np.unique(places)) == 100_000
    assert abs(places.mean() - 0.5) < 0.005
    assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 0.02


def test_nothing_drawn_is_an_empty_sample() -> None:
    state = SampledValues().state()
    assert state["index"].shape == (0,)
    again = SampledValues()
    again.load(state)
    again.add(_values(torch.arange(3)), torch.arange(3))
    assert _drawn(again) == [0, 1, 2]
