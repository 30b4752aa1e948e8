from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from atlas.project import COMPILED, CosineSearch, project, to_unit_square, umap_layout
from featviz.errors import UserError
from featviz.run.engine import same_threads


def _clusters(count: int = 60) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Three bundles of directions in 10 dimensions, and which bundle each vector is of."""
    rng = np.random.default_rng(0)
    kind = np.arange(count) % 3
    return (np.eye(10)[kind] * 5 + rng.normal(0, 0.3, (count, 10))).astype(np.float32), kind


@pytest.mark.parametrize("reducer", ["umap", "tsne", "pca"])
def test_every_reducer_keeps_like_with_like_in_the_unit_square_and_repeats_itself(reducer: str) -> None:
    vectors, kind = _clusters()
    xy = project(vectors, reducer, seed=3)
    assert xy.shape == (60, 2)
    assert xy.dtype == np.float32
    assert 0 <= xy.min() < xy.max() <= 1
    distances = np.linalg.norm(xy[:, None] - xy[None], axis=2) + np.eye(60) * 9
    assert (kind[distances.argmin(1)] == kind).mean() > 0.95
    assert np.array_equal(project(vectors, reducer, seed=3), xy)


def test_what_umap_compiles_is_kept_for_other_processes() -> None:
    project(_clusters()[0], "umap")
    for module, name in COMPILED[:3]:
        stats = getattr(importlib.import_module(module), name).stats
        assert stats.cache_path is not None, name
        assert list(Path(stats.cache_path).glob(f"*{name.removeprefix('_nb')}*.nbi")), name


def test_a_layout_leaves_torch_its_threads() -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            project(_clusters()[0], "umap")
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_another_seed_gives_another_layout() -> None:
    vectors, _ = _clusters()
    assert not np.array_equal(project(vectors, "umap", seed=0), project(vectors, "umap", seed=1))


def test_any_function_is_a_reducer_and_its_shape_is_checked() -> None:
    vectors, _ = _clusters()
    xy = project(vectors, lambda v, seed: v[:, :2] + seed, seed=1)
    assert xy.shape == (60, 2)
    with pytest.raises(UserError, match=r"\(60, 2\); got \(60, 3\)"):
        project(vectors, lambda v, seed: v[:, :3])


def test_too_few_and_equal_vectors_and_unknown_reducers_are_errors() -> None:
    vectors, _ = _clusters()
    with pytest.raises(UserError, match="umap needs at least 22 activation vectors; there are 21"):
        project(vectors[:21])
    with pytest.raises(UserError, match="all 30 activation vectors are equal"):
        project(np.ones((30, 4), np.float32))
    with pytest.raises(UserError, match="no reducer 'umapp'; the closest are 'umap'"):
        project(vectors, "umapp")


@given(arrays(np.float32, (40, 5), elements=st.floats(-3, 3, width=32)), st.integers(2, 9), st.integers(3, 50))
def test_neighbours_are_those_of_sorting_every_pair(vectors: NDArray[np.float32], count: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("atlas.project._COSINES", block * len(vectors))
        search = CosineSearch(vectors)
        indices, distances = search.among_themselves(count)
        others, apart = search.query(vectors[::-1][:7], count)
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    every = 1 - units @ units.T
    np.fill_diagonal(every, -1)
    assert np.array_equal(indices[:, 0], np.arange(40))
    assert np.allclose(distances, np.sort(every, axis=1)[:, :count].clip(0), atol=1e-5)
    assert all(len(set(row)) == count for row in indices.tolist())
    np.fill_diagonal(every, 1 - np.square(units).sum(1))
    assert np.allclose(apart, np.sort(every[::-1][:7], axis=1)[:, :count].clip(0), atol=1e-5)
    assert np.allclose(apart, np.take_along_axis(every[::-1][:7], others, 1).clip(0), atol=1e-5)


@given(arrays(np.float64, (30, 2), elements=st.floats(-1e6, 1e6)))
def test_every_point_lands_in_the_unit_square(layout: NDArray[np.float64]) -> None:
    xy = to_unit_square(layout)
    assert np.isfinite(xy).all()
    assert xy.min() >= 0
    assert xy.max() <= 1


def test_order_along_each_axis_is_kept_and_outliers_do_not_squeeze_the_rest() -> None:
    layout = np.stack([np.linspace(0, 1, 1000), np.linspace(5, 9, 1000)], 1)
    layout[0, 0] = -1e6
    xy = to_unit_square(layout)
    assert (np.diff(xy[1:], axis=0) >= 0).all()
    assert np.ptp(xy[10:-10, 0]) > 0.7


@pytest.mark.slow
def test_beyond_the_limit_umap_is_fitted_on_a_seeded_part_and_the_rest_lands_among_its_like() -> None:
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 300)
    vectors = (rng.normal(0, 0.2, (300, 8)) + np.where(kind[:, None], 1, [1, -1] * 4)).astype(np.float32)
    told: list[tuple[str, int, int]] = []
    with same_threads():
        first = umap_layout(vectors, 3, fit_up_to=200)
        again = umap_layout(vectors, 3, fit_up_to=200, progress=lambda *each: told.append(each))
    assert told[-2:] == [("layout of the rest", 0, 300), ("layout of the rest", 300, 300)]
    epochs = [done for stage, done, total in told if stage == "layout (umap)" and total == 500]
    assert sorted(set(epochs)) == list(range(501))
    assert epochs == sorted(epochs)
    assert first.shape == (300, 2)
    assert np.isfinite(first).all()
    assert np.array_equal(first, again)
    fitted = np.sort(np.random.default_rng(3).permutation(300)[:200])
    rest = np.setdiff1d(np.arange(300), fitted)
    near = fitted[np.linalg.norm(first[rest, None] - first[fitted], axis=2).argmin(1)]
    assert (kind[near] == kind[rest]).all()


def test_a_layout_tells_how_far_it_is_and_stays_the_same() -> None:
    vectors, told = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32), list[tuple[str, int, int]]()
    xy = project(vectors, progress=lambda *each: told.append(each))
    assert np.array_equal(xy, project(vectors))
    assert told[:2] == [("finding neighbours", 0, 60), ("finding neighbours", 60, 60)]
    assert {each[::2] for each in told[2:]} == {("layout (umap)", 500)}
    assert sorted({done for _, done, _ in told[2:]}) == list(range(501))


def test_up_to_the_limit_every_vector_is_fitted() -> None:
    vectors = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    with same_threads():
        assert np.array_equal(umap_layout(vectors, 0, fit_up_to=60), umap_layout(vectors, 0))


def test_the_reducer_cuml_says_what_it_needs() -> None:
    if importlib.util.find_spec("cuml"):
        pytest.skip("cuML is installed")
    with pytest.raises(UserError, match="cuML and a GPU; umap runs anywhere"):
        project(np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32), "cuml")
