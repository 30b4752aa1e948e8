from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from search.scan.distribution import ChannelStatistics, histogram_edges


def _of(values: Tensor, parts: int = 1) -> ChannelStatistics:
    found = ChannelStatistics()
    for part in values.chunk(parts):
        found.add(part)
    return found


def test_it_equals_numpy_on_the_whole_matrix() -> None:
    values = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 40000.0, 0.01]) + 0.3
    found = _of(values, parts=7)
    whole = values.numpy()
    assert found.count.tolist() == [500] * 3
    assert np.allclose(found.mean, whole.mean(0), atol=1e-5)
    assert np.allclose(found.deviation, whole.std(0), rtol=1e-4)
    assert np.array_equal(found.least, whole.min(0))
    assert np.array_equal(found.greatest, whole.max(0))
    assert np.allclose(found.positive, (whole > 0).mean(0))
    for share in (0.01, 0.25, 0.5, 0.9, 0.99, 1.0):
        exact = np.quantile(whole, share, axis=0, method="inverted_cdf")
        assert np.abs(found.quantile(share) - exact).max() <= np.abs(exact).max() * 0.035 + 5e-5


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30), st.integers(1, 4))
def test_every_value_lies_in_its_bin_and_the_quantile_within_the_extremes(numbers: list[float], parts: int) -> None:
    values = torch.tensor(numbers)[:, None]
    found = _of(values, parts)
    counts, edges = found.histogram()
    assert counts.sum() == len(numbers)
    inner = values[values.abs() < edges[-1]]
    for value in inner.tolist():
        place = int(torch.searchsorted(edges, torch.tensor(value), side="right")) - 1
        assert counts[0, max(place - 1, 0) : place + 2].sum() > 0
    for share in (0.0, 0.5, 1.0):
        assert min(numbers) <= found.quantile(share).item() <= max(numbers)


def test_merged_in_any_order_and_resumed_it_is_the_same() -> None:
    values = torch.randn(90, 4, generator=torch.Generator().manual_seed(1))
    whole, parts = _of(values), [_of(part) for part in values.split(30)]
    resumed = ChannelStatistics()
    resumed.load(parts[2].state())
    resumed.merge(ChannelStatistics())
    resumed.merge(parts[0])
    resumed.merge(parts[1])
    for key, value in whole.state().items():
        assert torch.allclose(resumed.state()[key], value)


def test_what_is_not_finite_is_left_out() -> None:
    found = _of(torch.tensor([[1.0, torch.nan], [torch.inf, torch.nan], [3.0, torch.nan]]))
    assert found.count.tolist() == [2, 0]
    assert found.mean[0] == 2
    assert found.greatest[0] == 3
    assert found.quantile(0.5)[1].isnan()


def test_bins_are_a_fixed_step_near_zero_and_three_percent_far_from_it() -> None:
    edges = histogram_edges()
    assert (edges.diff() > 0).all()
    middle = len(edges) // 2
    assert edges[middle].abs() < 1e-9
    assert (edges[middle + 1] - edges[middle]).item() == pytest.approx(3.1e-5, rel=0.02)
    assert (edges[-1] / edges[-2]).item() == pytest.approx(1.032, abs=0.002)
