from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from atlas.grid import bin_cells, cell_numbers

POINTS = arrays(np.float32, (50, 2), elements=st.floats(0, 1, width=32))


@given(POINTS, st.integers(1, 12))
def test_every_vector_lies_in_exactly_one_cell(xy: NDArray[np.float32], level: int) -> None:
    numbers = cell_numbers(xy, level)
    vectors = np.arange(50, dtype=np.float32)[:, None] + 1
    cells = bin_cells(xy, vectors, np.arange(50), np.zeros((50, 2), np.int64), levels=[level])
    assert sum(cell.count for cell in cells) == 50
    assert sorted(cell.row * level + cell.col for cell in cells) == sorted(set(numbers.tolist()))
    for cell in cells:
        inside = numbers == cell.row * level + cell.col
        assert cell.mean[0] == pytest.approx(vectors[inside].mean(), rel=1e-5)
        assert cell.col / level - 1e-6 <= cell.xy[0] <= (cell.col + 1) / level + 1e-6
        assert cell.row / level - 1e-6 <= cell.xy[1] <= (cell.row + 1) / level + 1e-6


def test_column_0_is_left_and_row_0_is_top_and_edges_belong_to_the_cell_that_begins_there() -> None:
    xy = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0], [0, 0.25], [0.4999, 0.2499]], np.float32)
    assert [divmod(number, 4) for number in cell_numbers(xy, 4).tolist()] == [
        (0, 0), (0, 3), (3, 0), (3, 3), (0, 2), (1, 0), (0, 1),
    ]  # fmt: skip


def test_cells_with_too_few_vectors_are_left_out_at_each_level() -> None:
    xy = np.array([[0.1, 0.1], [0.2, 0.2], [0.9, 0.9]], np.float32)
    cells = bin_cells(
        xy, np.eye(3, dtype=np.float32), np.arange(3), np.zeros((3, 2), np.int64), levels=[1, 2], min_count=2
    )
    assert [(cell.level, cell.row, cell.col, cell.count) for cell in cells] == [(1, 0, 0, 3), (2, 0, 0, 2)]


def test_exemplars_are_the_members_nearest_to_the_mean_by_cosine() -> None:
    vectors = np.array([[1, 0], [1, 0.1], [1, 0.5], [0, 9]], np.float32)
    xy = np.array([[0.1, 0.1]] * 3 + [[0.9, 0.9]], np.float32)
    positions = np.arange(8).reshape(4, 2)
    cells = bin_cells(xy, vectors, np.array([10, 11, 12, 13]), positions, levels=[2], exemplars=2)
    mean = vectors[:3].mean(0)
    cosines = vectors[:3] @ mean / np.linalg.norm(vectors[:3], axis=1)
    order = np.argsort(-cosines)[:2]
    assert cells[0].exemplars == tuple((10 + int(i), int(2 * i), int(2 * i + 1)) for i in order)
    assert cells[1].exemplars == ((13, 6, 7),)


def test_exemplars_show_different_images_before_one_image_twice() -> None:
    vectors = np.array([[1, 0], [1, 0.01], [1, 0.4]], np.float32)
    xy = np.full((3, 2), 0.5, np.float32)
    cell = bin_cells(xy, vectors, np.array([4, 4, 5]), np.zeros((3, 2), np.int64), levels=[1], exemplars=2)[0]
    assert {image for image, _, _ in cell.exemplars} == {4, 5}


def test_shapes_that_do_not_match_are_named() -> None:
    with pytest.raises(ValueError, match=r"xy \(3, 2\), vectors \(2, 5\)"):
        bin_cells(
            np.zeros((3, 2), np.float32),
            np.zeros((2, 5), np.float32),
            np.zeros(3, np.int64),
            np.zeros((3, 2), np.int64),
            levels=[2],
        )
    with pytest.raises(ValueError, match=r"xy \(3,\)"):
        cell_numbers(np.zeros(3, np.float32), 2)
