from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from atlas.classes import gradient_layout, members, telling_cells
from atlas.grid import bin_cells
from atlas.sample import Sample
from featviz.errors import UserError

_EFFECTS = arrays(np.float32, (30, 4), elements=st.floats(-5, 5, width=16))


@given(effects=_EFFECTS, label=st.integers(0, 3), count=st.integers(1, 40))
def test_members_equal_going_through_all_vectors(effects: np.ndarray, label: int, count: int) -> None:
    winners = [row for row in range(30) if all(effects[row, label] > effects[row, other] for other in range(label))
               and all(effects[row, label] >= effects[row, other] for other in range(4))]  # fmt: skip
    ranked = sorted(range(30), key=lambda row: (-effects[row, label], row))
    strongest = sorted(row for row in ranked[:count] if effects[row, label] > 0)
    assert members(effects, label, by="rank").tolist() == winners
    assert members(effects, label, by="magnitude", count=count).tolist() == strongest
    # In either, but no vector twice, as a plain concatenation would have it.
    assert members(effects, label, by="both", count=count).tolist() == sorted({*winners, *strongest})


def test_of_few_vectors_at_most_one_in_forty_is_taken_of_many_2000() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.random((400, 2), np.float32) + 1, rng.random((100_000, 2), np.float32) + 1
    assert len(members(few, 1, by="magnitude")) == 10
    assert len(members(many, 1, by="magnitude")) == 2000
    with pytest.raises(UserError, match="'rank'"):
        members(few, 1, by="rang")


def test_the_layout_between_two_classes_has_zero_in_the_middle_and_the_99th_percentile_at_the_edges() -> None:
    difference = np.concatenate([np.linspace(-1, 1, 1001), [5.0, -3.0]])
    effects = np.stack([np.full_like(difference, 0.3), np.zeros_like(difference), 0.3 + difference], 1)
    xy, unit = gradient_layout(effects.astype(np.float32), 0, 2, lambda: np.arange(len(difference), dtype=float))
    assert unit == pytest.approx(np.percentile(np.abs(difference), 99), rel=1e-5)
    assert xy[500, 0] == pytest.approx(0.5, abs=1e-6)
    assert xy[:, 0] == pytest.approx(np.clip(difference / unit, -1, 1) / 2 + 0.5, abs=1e-5)
    assert (xy[-2, 0], xy[-1, 0]) == (1, 0)
    assert (np.diff(xy[:, 1]) >= 0).all()
    assert xy[:, 1].min() == 0


def test_where_no_vector_tells_the_classes_apart_all_lie_in_the_middle() -> None:
    xy, _ = gradient_layout(np.ones((9, 2), np.float32), 0, 1, lambda: np.arange(9.0))
    assert (xy[:, 0] == 0.5).all()


def test_telling_cells_equal_averaging_each_cell_by_hand_and_never_name_the_two_classes_as_others() -> None:
    rng = np.random.default_rng(1)
    n = 200
    found = Sample(
        vectors=rng.random((n, 3), np.float32), image=rng.integers(0, 9, n), position=np.zeros((n, 2), np.int64),
        box=np.zeros((n, 4), np.float32), effects=rng.normal(size=(n, 6)).astype(np.float32),
    )  # fmt: skip
    xy = rng.random((n, 2), np.float32)
    cells = bin_cells(xy, found.vectors, found.image, found.position, levels=[4], effects=found.effects)
    rows = telling_cells(cells, found, xy, 1, 4)
    assert found.effects is not None
    assert len(rows) == len(cells)
    for row in rows:
        _, line, column = map(int, row.cell.split("/"))
        inside = (np.floor(xy[:, 1] * 4) == line) & (np.floor(xy[:, 0] * 4) == column)
        mean = found.effects[inside].mean(0, dtype=np.float64)
        assert row.difference == pytest.approx(mean[4] - mean[1])
        assert (row.count, row.images) == (inside.sum(), len(set(found.image[inside].tolist())))
        others = sorted(set(range(6)) - {1, 4}, key=lambda label: -mean[label])[:3]
        assert [label for label, _ in row.top] == others
        assert inside[list(row.nearest)].all()
    sizes = [abs(row.difference) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
