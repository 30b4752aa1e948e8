from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from search.correlations import ChannelCorrelations


def _of(values: Tensor, parts: int = 1) -> ChannelCorrelations:
    found = ChannelCorrelations()
    for part in values.chunk(parts):
        found.add(part)
    return found


def _values() -> Tensor:
    """Channel 1 follows channel 0, channel 2 opposes it, channel 3 is constant, channel 4 is channel 0 again."""
    base = torch.randn(200, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(200, generator=torch.Generator().manual_seed(1))
    return torch.stack([base, base + 0.5 * noise, -base, torch.full((200,), 7.0), 3 * base + 100], 1)


def test_it_equals_numpys_correlations() -> None:
    found = _of(_values(), parts=7).matrix().numpy()
    varying = [0, 1, 2, 4]
    expected = np.corrcoef(_values().numpy()[:, varying].T)
    assert np.allclose(found[np.ix_(varying, varying)], expected, atol=1e-4)
    assert not found[3].any()


def test_similar_dead_and_duplicate_channels_are_named() -> None:
    found = _of(_values())
    assert [channel for channel, _ in found.similar(0, 2)] == [4, 1]
    assert found.similar(0, 99)[-1] == (2, pytest.approx(-1, abs=1e-4))
    assert found.dead() == [3]
    assert [(a, b) for a, b, _ in found.duplicates()] == [(0, 4)]


def test_merged_in_any_order_and_resumed_it_is_the_same() -> None:
    parts = [_of(part) for part in _values().split(60)]
    resumed = ChannelCorrelations()
    resumed.load(parts[3].state())
    for number in (1, 0, 2):
        resumed.merge(parts[number])
    resumed.merge(ChannelCorrelations())
    assert torch.allclose(resumed.matrix(), _of(_values()).matrix(), atol=1e-6)


def test_a_channel_that_is_not_finite_is_left_out_and_spoils_no_other() -> None:
    values = _values()
    values[5, 1] = torch.nan
    found, others = _of(values, parts=9), [0, 2, 3, 4]
    assert not found.matrix()[1].any()
    assert torch.allclose(found.matrix()[others][:, others], _of(_values()).matrix()[others][:, others], atol=1e-6)
    assert found.dead() == [3]
    values[:, 1] = -torch.inf
    assert _of(values).dead() == [3]
