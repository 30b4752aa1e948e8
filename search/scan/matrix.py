"""Every unit's value on every image, kept on disk: later questions need no network."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featviz.errors import UserError, unknown
from featviz.run.output import safe_name

from .topk import Ranking, RunningTopK

# Images that a question about the matrix reads at once.
_ROWS = 4096


class MatrixFile:
    """Writes a readout's values, (images, units) float32, and positions of their maxima, int32, as they come in.

    Both are memory-mapped .npy files: memory does not grow with the images. Rows of images never seen are NaN and -1.
    """

    def __init__(self, folder: Path, name: str, images: int) -> None:
        self.folder, self.name, self.images = folder, name, images
        self._values: NDArray[np.float32] | None = None
        self._positions: NDArray[np.int32] | None = None

    def begin(self, units: int) -> None:
        """Have the files there before any process writes into them: two that make them at once would lose rows."""
        self._values = _mapped(self._file("values"), (self.images, units), np.float32, np.nan)
        self._positions = _mapped(self._file("positions"), (self.images, units), np.int32, -1)

    def write(self, values: Tensor, positions: Tensor, index: Tensor) -> None:
        """Values and positions (n, units) of n images whose numbers are `index` (n,)."""
        if self._values is None or self._positions is None:
            self.begin(values.shape[1])
        assert self._values is not None
        assert self._positions is not None
        rows = index.cpu().numpy()
        self._values[rows] = values.cpu().numpy()
        self._positions[rows] = positions.cpu().numpy()

    def flush(self) -> None:
        """Have all that was written reach the disk."""
        for mapped in (self._values, self._positions):
            if isinstance(mapped, np.memmap):
                mapped.flush()

    def _file(self, what: str) -> Path:
        return self.folder / f"{safe_name(self.name)}.{what}.npy"


@dataclass(frozen=True, eq=False)
class Matrix:
    """A readout's `values` and `positions`, (images, units) each, on disk; `labels` (images,), -1 where unknown."""

    values: NDArray[np.float32]
    positions: NDArray[np.int32]
    labels: NDArray[np.int64]

    def ranking(self, k: int, *, largest: bool = True, label: int | None = None) -> Ranking:
        """The k best images of every unit, of one class alone where `label` is given."""
        found = RunningTopK(k, largest=largest)
        numbers = np.arange(len(self.values)) if label is None else np.flatnonzero(self.labels == label)
        for start in range(0, len(numbers), _ROWS):
            rows = numbers[start : start + _ROWS]
            positions = torch.from_numpy(np.array(self.positions[rows])).long()

            def position(row: Tensor, unit: Tensor, positions: Tensor = positions) -> Tensor:
                return positions[row, unit]

            found.update(torch.from_numpy(np.array(self.values[rows])), torch.from_numpy(rows), position)
        return found.ranking()

    def between(self, unit: int, low: float, high: float) -> NDArray[np.int64]:
        """The numbers of the images on which the unit's value lies in [low, high], the strongest first."""
        column = np.array(self.values[:, unit])
        numbers = np.flatnonzero((column >= low) & (column <= high))
        return numbers[np.argsort(-column[numbers], kind="stable")]

    def quantile(self, unit: int, shares: float | list[float]) -> NDArray[np.float64]:
        """The unit's exact quantiles over the images."""
        column = np.array(self.values[:, unit], dtype=np.float64)
        return np.asarray(np.quantile(column[np.isfinite(column)], shares))


def open_matrix(folder: str | Path) -> dict[str, Matrix]:
    """The matrices that `exemplars(..., matrix=folder)` or `atlas exemplars --matrix` kept, by the readouts' names.

    Raises `UserError` for a folder without them.
    """
    folder = Path(folder)
    folder = folder / "matrix" if (folder / "matrix" / "matrix.json").is_file() else folder
    if not (folder / "matrix.json").is_file():
        raise UserError(f"{str(folder)!r} holds no matrix; make one with `atlas exemplars ... --matrix`.")
    about: dict[str, Any] = json.loads((folder / "matrix.json").read_text(encoding="utf-8"))
    labels = np.array(about["labels"], dtype=np.int64)
    return _Named(
        {
            name: Matrix(_read(folder / f"{stem}.values.npy"), _read(folder / f"{stem}.positions.npy"), labels)
            for name, stem in about["readouts"].items()
        }
    )


class _Named(dict[str, Matrix]):
    def __missing__(self, name: str) -> Matrix:
        raise unknown("readout in the matrix", name, list(self))


def _read(file: Path) -> Any:
    return np.load(file, mmap_mode="r", allow_pickle=False)


def claim_matrix(folder: Path, identity: Mapping[str, Any], labels: Sequence[int], paths: Sequence[str]) -> None:
    """Write matrix.json, what the files are to hold, before they are.

    identity: what the values depend on, with the names of the readouts. Raises `UserError` for a folder that holds a
    matrix of something else: rows of both would stand side by side.
    """
    file = folder / "matrix.json"
    wanted = json.loads(json.dumps(identity))
    if file.is_file():
        if json.loads(file.read_text(encoding="utf-8"))["identity"] != wanted:
            raise UserError(
                f"{str(folder)!r} holds a matrix of another network, images or settings: give a new folder."
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "identity": wanted,
        "readouts": {name: safe_name(name) for name in identity["readouts"]},
        "labels": list(labels),
        "paths": list(paths),
    }
    draft = folder / f".{os.getpid()}-matrix.json"
    draft.write_text(json.dumps(about), encoding="utf-8")
    draft.replace(file)


def _mapped(file: Path, shape: tuple[int, int], kind: type, unseen: float) -> Any:
    """The file's array, to be written: what an earlier run left of it, else new and `unseen` all over."""
    if file.is_file():
        found = np.load(file, mmap_mode="r+", allow_pickle=False)
        if found.shape == shape and found.dtype == kind:
            return found
    file.parent.mkdir(parents=True, exist_ok=True)
    # Under another name until it is filled: a run killed meanwhile leaves no zeros that pass for values.
    draft = file.with_name(f".{os.getpid()}-{file.name}")
    made = np.lib.format.open_memmap(draft, mode="w+", dtype=kind, shape=shape)
    made[:] = unseen
    made.flush()
    draft.replace(file)
    return np.load(file, mmap_mode="r+", allow_pickle=False)
