from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.rows import Rows


@pytest.mark.parametrize("mapped", [False, True])
def test_rows_are_those_that_were_added_in_their_order(mapped: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = [
        {"vectors": rng.normal(size=(count, 3)).astype(np.float32), "image": rng.integers(0, 9, count)}
        for count in (4, 0, 7)
    ]
    rows = Rows(tmp_path if mapped else None)
    for part in parts:
        rows.add(part)
    found = rows.arrays()
    assert len(rows) == 11
    assert set(found) == {"vectors", "image"}
    for name, values in found.items():
        whole = np.concatenate([part[name] for part in parts])
        assert np.array_equal(values, whole)
        assert values.dtype == whole.dtype
        assert isinstance(values, np.memmap) == mapped
        values[0] = 0  # what is changed stays in memory
    assert Rows(None).arrays() == {}
    if mapped:
        assert np.array_equal(rows.arrays()["image"], np.concatenate([part["image"] for part in parts]))


@given(st.lists(st.integers(0, 5), max_size=4))
def test_nothing_added_gives_no_arrays(counts: list[int]) -> None:
    rows = Rows(None)
    for count in counts:
        rows.add({"x": np.zeros((count, 2))})
    assert len(rows) == sum(counts)
