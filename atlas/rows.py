"""Arrays that grow by rows: in files that are mapped into memory, or in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featviz.run.keep import Arrays


class Rows:
    """Arrays by name that all grow by the same rows, (n, ...) each.

    room: a folder for one file per array, which `arrays` maps into memory, so that they may be larger than it; None
    keeps them in memory.
    """

    def __init__(self, room: Path | None) -> None:
        self.room = room
        self._parts: dict[str, list[NDArray[Any]]] = {}
        self._kinds: Arrays = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, arrays: Arrays) -> None:
        """Append rows (m, ...) to every array."""
        self._count += len(next(iter(arrays.values())))
        for name, values in arrays.items():
            self._kinds.setdefault(name, values[:0])
            if self.room is None:
                self._parts.setdefault(name, []).append(values)
            else:
                with self._file(name).open("ab") as stream:
                    stream.write(np.ascontiguousarray(values).data)

    def arrays(self) -> Arrays:
        """All rows; what a caller writes into them stays in memory."""
        if self.room is None:
            return {name: np.concatenate(parts) for name, parts in self._parts.items()}
        return {
            name: np.memmap(self._file(name), kind.dtype, "c", shape=(self._count, *kind.shape[1:]))
            for name, kind in self._kinds.items()
            if self._count
        }

    def _file(self, name: str) -> Path:
        assert self.room is not None
        return self.room / f"{name}.bin"
