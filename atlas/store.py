"""Where an atlas's vectors lie: a Zarr group in its folder, or at any address that fsspec knows."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from featviz.errors import UserError

# Bytes of a chunk: more vectors than memory holds go through it piece by piece.
_CHUNK = 2**23
# Bytes of an array that is read into memory; of larger ones, what is looked at alone.
_IN_MEMORY = 2**28


def store_address(given: str) -> str:
    """An address that stays good when it is looked up from another folder: a path of this machine, in full.

    Raises `UserError` for one of which fsspec knows no driver.
    """
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    try:
        system, path = fsspec.core.url_to_fs(given)
    except (ImportError, ValueError, OSError) as error:
        raise _closed(given, error) from error
    return str(path) if isinstance(system, LocalFileSystem) else given


def open_store(address: str | Path, *, mode: Literal["r", "a"]) -> Any:
    """The Zarr group at a path or at any address that fsspec knows; a `UserError` where it cannot be had."""
    import zarr

    try:
        return zarr.open_group(str(address), mode=mode)
    except (ImportError, ValueError, FileNotFoundError) as error:
        raise _closed(address, error) from error


def check_store(address: str, identity: Mapping[str, Any]) -> None:
    """Raise `UserError` where an address holds anything but the vectors of the work that `identity` describes."""
    if _files_at(address):
        found = open_store(address, mode="r").attrs.get("identity")
        if found != json.loads(json.dumps(identity)):
            raise UserError(
                f"--store {address!r} holds something else already; give an address where there is nothing."
            )


def claim_store(address: str, identity: Mapping[str, Any]) -> None:
    """Take an address for the vectors of the work that `identity` describes, before any of it is done.

    Raises `UserError` where nothing can be stored.
    """
    if not _files_at(address):
        import zarr

        try:
            # In one file: had a killed run made the group and not said whose it is, nobody could go on.
            zarr.create_group(address, attributes={"identity": json.loads(json.dumps(identity))})
        except (ImportError, ValueError, OSError) as error:
            raise _closed(address, error) from error


def write_store(address: str | Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays (n, ...) by name, in place of those of the same names."""
    store = open_store(address, mode="a")
    for name, values in arrays.items():
        rows = max(1, min(len(values), _CHUNK // max(1, values[:1].nbytes)))
        array = store.create_array(
            name, overwrite=True, shape=values.shape, dtype=values.dtype, chunks=(rows, *values.shape[1:])
        )  # fmt: skip
        for start in range(0, len(values), rows):
            array[start : start + rows] = np.asarray(values[start : start + rows])


def read_store(address: str | Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays (n, ...) of these names that a store has; large ones as a file that is mapped into memory.

    The file lies where temporary files do (TMPDIR), and goes with the last array that looks at it.
    """
    store = open_store(address, mode="r")
    return {name: _read(store[name]) for name in names if name in store}


def _read(array: Any) -> NDArray[Any]:
    if array.nbytes <= _IN_MEMORY:
        return np.asarray(array)
    with tempfile.TemporaryFile() as file:
        _reserve(file, array.nbytes)
        mapped = np.memmap(file, dtype=array.dtype, mode="w+", shape=array.shape)
        for start in range(0, len(mapped), array.chunks[0]):
            mapped[start : start + array.chunks[0]] = array[start : start + array.chunks[0]]
    return mapped


def _reserve(file: IO[bytes], size: int) -> None:
    """Take the room on the disk now: a mapped file that cannot grow later ends the process without a word."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise UserError(
            f"no room for {size / 1e9:.1f} GB in {tempfile.gettempdir()}, where large arrays are unpacked "
            f"({error.strerror}): have TMPDIR name a folder with more."
        ) from error


def _files_at(address: str) -> int:
    """How many files lie at an address."""
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(address)
        return len(system.ls(path)) if system.exists(path) else 0
    except (ImportError, ValueError, OSError) as error:
        raise _closed(address, error) from error


def _closed(address: str | Path, error: Exception) -> UserError:
    return UserError(f"the store {str(address)!r} cannot be opened: {str(error).splitlines()[0]}")
