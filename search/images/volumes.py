"""Volumes of NIfTI -> a data set of their slices."""

from __future__ import annotations

import hashlib
import importlib
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featviz.errors import UserError

from .decode import MOST_BYTES, why
from .image_set import Images, readable

_NIFTI = (".nii", ".nii.gz")


def is_volume(file: Path) -> bool:
    """Whether a file is one of NIfTI by its name."""
    return file.name.lower().endswith(_NIFTI)


def volume_files(folder: Path) -> list[Path]:
    """The files of NIfTI below a folder, sorted by name; folders that cannot be entered are passed over."""
    return sorted(Path(here, name) for here, _, names in os.walk(folder) for name in names if is_volume(Path(name)))


def from_volumes(source: Path, name: str) -> Images:
    """The slices of a volume of NIfTI, or of all below a folder, as a radiologist sees them: the front is up.

    They lie across the third axis, turned to the nearest of right, front and top first, whatever order a file has them
    in; each is named by its file's path below the folder and its number. A network has to state the range of their
    numbers. Raises `UserError` where nibabel is not installed, and for a file that is damaged, too large or no volume.
    """
    files = [source] if source.is_file() else volume_files(source)
    counts, digest, names = [], hashlib.sha256(), list[str]()
    for file in files:
        counts.append(_slices_of(file))
        short = file.name if file == source else file.relative_to(source).as_posix()
        names += [f"{short}/{number:04d}" for number in range(counts[-1])]
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    unknown, slices = (-1,) * len(names), Slices(files, list(accumulate(counts)))
    return Images(
        readable(name), tuple(names), unknown, ("",) * len(names), dataset=slices, content=digest.hexdigest(),
        archives=tuple(files),
    )  # fmt: skip


def _slices_of(file: Path) -> int:
    """How many slices a volume has, by its header."""
    nibabel = _nibabel()
    try:
        image: Any = nibabel.load(file)
        shape, across = tuple(image.shape), list(nibabel.io_orientation(image.affine)[:, 0]).index(2)
    except Exception as error:  # nibabel raises almost anything on a file that is none
        raise UserError(f"the volume {str(file)!r} cannot be read: {why(error)}.") from error
    if len(shape) != 3:
        raise UserError(f"the volume {str(file)!r} has {len(shape)} dimensions: give volumes of three.")
    if prod(shape) * 4 > MOST_BYTES:
        raise UserError(f"the volume {str(file)!r} takes more than {MOST_BYTES:,} bytes.")
    return int(shape[across])


def _nibabel() -> Any:
    """nibabel, whose functions are not typed."""
    try:
        return importlib.import_module("nibabel")
    except ImportError as error:
        raise UserError("NIfTI volumes need an extra: pip install 'activation-atlas[medical]'.") from error


class Slices:
    """The slices of volumes as a data set; the volume that was last asked for is held, since they come in order.

    ends: how many slices there are up to the end of each file.
    """

    def __init__(self, files: Sequence[Path], ends: Sequence[int]) -> None:
        self.files, self.ends = tuple(files), tuple(ends)
        self._held: tuple[Path, NDArray[np.float32]] | None = None

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, number: int) -> NDArray[np.float32]:
        place = bisect_right(self.ends, number)
        first = self.ends[place - 1] if place else 0
        # Rows run from the front to the back, columns as in the volume.
        return np.ascontiguousarray(self._volume(self.files[place])[:, ::-1, number - first].T)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_held": None}

    def _volume(self, file: Path) -> NDArray[np.float32]:
        """(right, front, top)."""
        nibabel, held = _nibabel(), self._held
        if held is None or held[0] != file:
            image: Any = nibabel.as_closest_canonical(nibabel.load(file))
            held = self._held = file, np.asarray(image.dataobj, dtype=np.float32)
        return held[1]
