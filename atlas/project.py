"""Activation vectors -> points in the unit square, similar vectors near each other."""

from __future__ import annotations

import io
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featviz.errors import UserError, unknown
from featviz.progress import Progress, silent
from featviz.run.engine import same_threads

Floats = NDArray[np.float32]
# (vectors (n, c), seed) -> (n, 2), in any unit.
Reducer = Callable[[Floats, int], NDArray[np.floating]]

# 20 neighbours and cosine are what the article's notebooks use. Their min_dist of 0.01 heaps a photograph's vectors
# into one cell: of 20 x 20 cells, 8,000 vectors of 500 photographs fill 214, of 30 photographs 64; at 0.5, 296 and 153.
NEIGHBORS, MIN_DIST = 20, 0.5
# UMAP is fitted on so many vectors at most, drawn with the seed; the others are laid out among them, in blocks. All
# pairwise cosines of 100,000 vectors of 320 channels take two cores 33 s, UMAP's approximate search 30 s.
FIT_UP_TO, _BLOCK = 200_000, 20_000
# How often UMAP moves the others: its own choice for a whole block, and here for the last, smaller one too.
_EPOCHS = 30
# What UMAP compiles anew in each process, which takes ten seconds, while Numba could keep it on disk; aligned UMAP
# compiles the last four, too, which takes twenty more.
COMPILED = (
    ("umap.umap_", "smooth_knn_dist"),
    ("umap.umap_", "compute_membership_strengths"),
    ("umap.layouts", "_nb_optimize_layout_euclidean_single_epoch"),
    ("umap.utils", "fast_knn_indices"),
    ("umap.aligned_umap", "build_neighborhood_similarities"),
    ("umap.aligned_umap", "procrustes_align"),
    ("umap.aligned_umap", "in1d"),
)
# Cosines at once: more take memory, and no less time.
_COSINES = 2**24


def project(vectors: Floats, reducer: str | Reducer = "umap", *, seed: int = 0, progress: Progress = silent) -> Floats:
    """Lay out vectors (n, c) in the unit square: (n, 2), x to the right and y down.

    reducer: `umap`, `tsne`, `pca`, or any function (vectors, seed) -> (n, 2). The same seed gives the same layout.
    progress: told of the neighbours found and of what UMAP has done; of the other reducers nothing is known.

    Raises `UserError` where there are too few vectors or all are equal.
    """
    reduce, name = named_reducer(reducer)
    check_vectors(vectors, name)
    if reduce is umap_layout:
        reduce = partial(umap_layout, progress=progress)
    with same_threads():
        layout = np.asarray(reduce(vectors, seed), dtype=np.float64)
    if layout.shape != (len(vectors), 2):
        raise UserError(f"{name} must give one point per vector, shape {(len(vectors), 2)}; got {layout.shape}.")
    return to_unit_square(layout)


def named_reducer(reducer: str | Reducer) -> tuple[Reducer, str]:
    """The function that reduces, and its name for settings and messages; a `UserError` for a name that is none."""
    if isinstance(reducer, str):
        if reducer not in REDUCERS:
            raise unknown("reducer", reducer, list(REDUCERS))
        return REDUCERS[reducer], reducer
    known = {function: name for name, function in REDUCERS.items()}
    return reducer, known.get(reducer, getattr(reducer, "__qualname__", type(reducer).__name__))


def vectors_needed(reducer: str) -> int:
    """How many vectors a layout takes."""
    return 3 if reducer == "pca" else NEIGHBORS + 2


def check_vectors(vectors: Floats, reducer: str = "umap") -> None:
    """Raise `UserError` unless there are enough different vectors for a layout."""
    needed = vectors_needed(reducer)
    if len(vectors) < needed:
        raise UserError(
            f"{reducer} needs at least {needed} activation vectors; there are {len(vectors)}. Use more "
            "images, or raise --per-image or --samples."
        )
    if np.ptp(vectors, axis=0).max() == 0:
        raise UserError(f"all {len(vectors)} activation vectors are equal: there is nothing to lay out.")


def to_unit_square(layout: NDArray[np.float64]) -> Floats:
    """Scale each axis: 1st to 99th percentile, a tenth of that range more on both sides; clip what lies beyond.

    Where the outermost points reach less far than that, they set the edge.
    """
    low, high = np.percentile(layout, [1, 99], axis=0)
    margin = 0.1 * (high - low)
    low = np.maximum(low - margin, layout.min(0))
    high = np.minimum(high + margin, layout.max(0))
    span = np.where(high > low, high - low, 1)
    inside: Floats = np.clip((layout - low) / span, 0, 1).astype(np.float32)
    return inside


def umap_layout(
    vectors: Floats, seed: int, *, fit_up_to: int = FIT_UP_TO, progress: Progress = silent
) -> NDArray[np.floating]:
    """(n, 2) by UMAP, McInnes, Healy and Melville 2018; of more than `fit_up_to` vectors, fitted on a seeded part."""
    if len(vectors) <= fit_up_to:
        return _fitted(vectors, seed, progress).embedding_  # type: ignore[no-any-return]
    chosen = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:fit_up_to])
    reducer = _fitted(np.array(vectors[chosen]), seed, progress)
    reducer.tqdm_kwds, reducer.n_epochs = {"disable": True}, 3 * _EPOCHS  # of which it takes a third
    layout = np.empty((len(vectors), 2), np.float32)
    for start in range(0, len(vectors), _BLOCK):
        progress("layout of the rest", start, len(vectors))
        layout[start : start + _BLOCK] = reducer.transform(np.array(vectors[start : start + _BLOCK]))
    progress("layout of the rest", len(vectors), len(vectors))
    layout[chosen] = reducer.embedding_
    return layout


class _Epochs(io.TextIOBase):
    """Where UMAP's own bar is written: passes on how many of its epochs are through."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def write(self, text: str) -> int:
        if found := re.search(r"(\d+)/(\d+)", text):
            self.progress("layout (umap)", int(found[1]), int(found[2]))
        return len(text)


def _fitted(vectors: Floats, seed: int, progress: Progress) -> Any:
    """A fitted UMAP, of the neighbours found here."""
    search = CosineSearch(vectors)
    indices, distances = search.among_themselves(NEIGHBORS, progress)
    with warnings.catch_warnings():
        # "n_jobs overridden to 1 by random_state", "precomputed_knn[2] is not an NNDescent object": both are meant.
        warnings.simplefilter("ignore")
        import umap

        keep_compiled()
        options: dict[str, Any] = {"precomputed_knn": (indices, distances, search)}
        if progress is not silent:
            options["tqdm_kwds"] = {
                "disable": False, "file": _Epochs(progress), "bar_format": "{n}/{total}", "mininterval": 0
            }  # fmt: skip
        reducer = umap.UMAP(n_neighbors=NEIGHBORS, min_dist=MIN_DIST, metric="cosine", random_state=seed, **options)
        return reducer.fit(vectors)


def keep_compiled() -> None:
    """Have what UMAP compiles kept beside it, or in NUMBA_CACHE_DIR: Numba looks whether it still fits."""
    for module, name in COMPILED:
        # Private names of UMAP's: where a release has others, it compiles as before.
        with suppress(AttributeError, RuntimeError):  # or there is no folder that can be written
            getattr(sys.modules[module], name).enable_caching()


def _cuml(vectors: Floats, seed: int) -> NDArray[np.floating]:
    """UMAP on a GPU, where RAPIDS cuML is installed."""
    try:
        from cuml.manifold import UMAP
    except ImportError as error:
        raise UserError("the reducer cuml needs RAPIDS cuML and a GPU; umap runs anywhere.") from error
    reducer = UMAP(n_neighbors=NEIGHBORS, min_dist=MIN_DIST, metric="cosine", random_state=seed, output_type="numpy")
    layout: NDArray[np.floating] = reducer.fit_transform(vectors)
    return layout


def _tsne(vectors: Floats, seed: int) -> NDArray[np.floating]:
    from sklearn.manifold import TSNE

    perplexity = min(50.0, (len(vectors) - 1) / 3)
    layout: NDArray[np.floating] = TSNE(
        perplexity=perplexity, metric="cosine", init="random", random_state=seed, n_jobs=1
    ).fit_transform(vectors)
    return layout


def tsne_line(vectors: Floats, seed: int) -> NDArray[np.floating]:
    """(n,) vectors laid out on a line, similar ones near each other: t-SNE by cosine."""
    from sklearn.manifold import TSNE

    perplexity = min(50.0, (len(vectors) - 1) / 3)
    line: NDArray[np.floating] = TSNE(
        n_components=1, perplexity=perplexity, metric="cosine", init="random", random_state=seed, n_jobs=1
    ).fit_transform(vectors)[:, 0]
    return line


def _pca(vectors: Floats, seed: int) -> NDArray[np.floating]:
    from sklearn.decomposition import PCA

    layout: NDArray[np.floating] = PCA(2, svd_solver="full").fit_transform(vectors)
    return layout


REDUCERS: Mapping[str, Reducer] = {"umap": umap_layout, "tsne": _tsne, "pca": _pca, "cuml": _cuml}


class CosineSearch:
    """Exact nearest neighbours by cosine distance, with the methods that UMAP wants of a search index."""

    _angular_trees = True  # UMAP asks how an approximate index was made

    def __init__(self, vectors: Floats) -> None:
        self._units = _units(vectors)

    def among_themselves(self, count: int, progress: Progress = silent) -> tuple[NDArray[np.int64], Floats]:
        """Each vector's neighbours, itself the first: indices and distances, (n, count)."""
        return self._nearest(self._units, count, themselves=True, progress=progress)

    def query(self, vectors: Floats, k: int, epsilon: float = 0.0) -> tuple[NDArray[np.int64], Floats]:
        """The `k` nearest to each of other vectors (m, c): indices and distances, (m, k), the nearest first."""
        return self._nearest(_units(vectors), k)

    def _nearest(
        self, units: Tensor, count: int, *, themselves: bool = False, progress: Progress = silent
    ) -> tuple[NDArray[np.int64], Floats]:
        total, block = len(units), max(16, _COSINES // len(self._units))
        indices, distances = np.empty((total, count), np.int64), np.empty((total, count), np.float32)
        for start in range(0, total, block):
            progress("finding neighbours", start, total)
            cosines = units[start : start + block] @ self._units.T
            if themselves:
                own = torch.arange(len(cosines))
                cosines[own, start + own] = torch.inf  # it comes first, also among equals
            nearest, where = cosines.topk(count, dim=1)
            indices[start : start + block] = where
            distances[start : start + block] = (1 - nearest).clamp(min=0)
        progress("finding neighbours", total, total)
        return indices, distances


def _units(vectors: Floats) -> Tensor:
    units = torch.from_numpy(np.array(vectors, dtype=np.float32, order="C"))
    return units.div_(units.norm(dim=1, keepdim=True).clamp(min=1e-12))
