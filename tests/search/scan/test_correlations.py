from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from search.scan import correlations
from search.scan.correlations import ChannelCorrelations


def _values() -> Tensor:
    """Channel 1 follows channel 0, channel 2 opposes it, channel 3 is constant, channel 4 is channel 0 again."""
    base = torch.randn(200, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(200, generator=torch.Generator().manual_seed(1))
    return torch.stack([base, base + 0.5 * noise, -base, torch.full((200,), 7.0), 3 * base + 100], 1)


def test_it_equals_numpys_correlations() -> None:
    found = ChannelCorrelations(_values()).matrix().numpy()
    varying = [0, 1, 2, 4]
    expected = np.corrcoef(_values().numpy()[:, varying].T)
    assert np.allclose(found[np.ix_(varying, varying)], expected, atol=1e-4)
    assert not found[3].any()


@pytest.mark.parametrize("rows", [1, 2, 1024])
def test_similar_and_duplicate_channels_are_named(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(correlations, "_ROWS", rows)
    found = ChannelCorrelations(_values())
    assert [channel for channel, _ in found.similar(0, 2)] == [4, 1]
    assert found.similar(0, 99)[-1] == (2, pytest.approx(-1, abs=1e-4))
    assert [(a, b) for a, b, _ in found.duplicates()] == [(0, 4)]


def test_a_channel_that_is_not_finite_is_left_out_and_spoils_no_other() -> None:
    values = _values()
    values[5, 1] = torch.nan
    found, others = ChannelCorrelations(values).matrix(), [0, 2, 3, 4]
    assert not found[1].any()
    expected = ChannelCorrelations(_values()).matrix()
    assert torch.allclose(found[others][:, others], expected[others][:, others], atol=1e-6)


def test_without_images_nothing_goes_together() -> None:
    assert ChannelCorrelations(torch.zeros(0, 3)).duplicates() == []
