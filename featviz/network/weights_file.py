"""A file of weights -> what it holds, without running anything of it; what holds no weights is told in words."""

from __future__ import annotations

import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError

_SAVE = "torch.save(network.state_dict(), 'weights.pth')"
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
_REBUILD = f"build the network in PyTorch, fill it, and {_SAVE}"
# What a file of another kind is called, by how it begins; then by how its name ends.
_BEGINS: tuple[tuple[bytes, int, str], ...] = (
    (b"\x89HDF\r\n", 0, f"an HDF5 file, as Keras writes them: {_REBUILD}"),
    (b"TFL3", 4, f"a TensorFlow Lite model: {_REBUILD}"),
    (b"GGUF", 0, f"a GGUF file: {_REBUILD}"),
    (b"version https://git-lfs", 0, "a pointer of Git LFS, not the weights themselves: `git lfs pull` brings them"),
    (b"\x1f\x8b", 0, "compressed by gzip: unpack it first"),
    (b"<!doctype", 0, "a web page, not the weights: the download has failed"),
    (b"<html", 0, "a web page, not the weights: the download has failed"),
)
_ENDS = {
    ".onnx": f"an ONNX model, a graph of its own: {_REBUILD}, or let FILE.py:make return onnx2torch's module",
    ".pb": f"a TensorFlow graph: {_REBUILD}",
    ".index": f"the index of a TensorFlow checkpoint: {_REBUILD}",
    ".data-00000-of-00001": f"a TensorFlow checkpoint: {_REBUILD}",
    ".keras": f"a Keras model: {_REBUILD}",
    ".h5": f"an HDF5 file, as Keras writes them: {_REBUILD}",
    ".tflite": f"a TensorFlow Lite model: {_REBUILD}",
    ".msgpack": f"a Flax checkpoint: {_REBUILD}",
    ".npz": f"an archive of numpy arrays: {_REBUILD}",
    ".json": "JSON; weights lie in a .safetensors or .pth file beside it",
}


class Inert(dict[Any, Any]):
    """What stands in a file for an object of a class that is no tensor: it does nothing, and its class is not run."""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass


class _Mapped:
    """What stands for an object with items, such as settings of a class of their own: they are kept."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


class _Listed:
    """What stands for an object that things are appended to."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return []


class _RefusalError(Exception):
    """Why a file is refused, as a sentence whose subject is the file."""


def read_weights(file: Path, of: str) -> Any:
    """What a .safetensors or torch file holds: its tensors and the containers around them.

    A torch file is read with weights_only. Objects of other classes (settings, an optimiser's) become `Inert`; nothing
    of theirs is imported or run. `of`: what the weights are meant for, for errors.

    Raises `UserError` for a file that is cut off, damaged or holds something else.
    """
    if file.is_dir():
        inside = sorted(entry.name for entry in file.iterdir() if entry.suffix in _SUFFIXES)
        hint = f"give one of its files: {', '.join(inside[:3])}" if inside else "give a .safetensors or .pth file"
        raise UserError(f"weights file {str(file)!r} is a folder: {hint}.")
    if not file.is_file():
        raise UserError(f"no weights file {str(file)!r}.")
    try:
        return _read(file)
    except _RefusalError as refusal:
        raise UserError(f"{file} does not hold weights for {of}: it {refusal}.") from refusal.__cause__


def whole_network(file: Path, of: str, kind: str) -> UserError:
    """The error for a file that holds a whole network of that class."""
    return UserError(f"{file} does not hold weights for {of}: it {_whole(kind)}.")


def _read(file: Path) -> Any:
    with file.open("rb") as stream:
        start = stream.read(64)
    if not start:
        raise _RefusalError("is empty")
    if other := _other_kind(file, start):
        raise _RefusalError(f"is {other}")
    if file.suffix == ".safetensors" or start[8:9] == b"{":
        return _safetensors(file, start)
    return _torch_file(file, zipped=start.startswith(b"PK"))


def _other_kind(file: Path, start: bytes) -> str | None:
    for begins, place, kind in _BEGINS:
        if start[place:].lower().startswith(begins.lower()):
            return kind
    return next((kind for ends, kind in _ENDS.items() if file.name.lower().endswith(ends)), None)


def _safetensors(file: Path, start: bytes) -> Any:
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except Exception as error:  # the library's own type tells nothing more than its text
        header = int.from_bytes(start[:8], "little")
        whole = start[8:9] == b"{"
        if whole and (header + 8 > file.stat().st_size or "incomplete" in str(error).lower()):
            raise _cut_off(file) from error
        raise _RefusalError(f"is no safetensors file, or a damaged one ({_first_line(error)})") from error


def _torch_file(file: Path, *, zipped: bool) -> Any:
    if zipped:
        if not zipfile.is_zipfile(file):
            raise _cut_off(file)
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
        if any(name.endswith(("/constants.pkl", "constants.pkl")) for name in names):
            raise _RefusalError(
                "is a ScriptModule (torch.jit.save): take its weights with "
                "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')"
            )
        if not any(name.endswith("data.pkl") for name in names):
            raise _RefusalError(f"is a zip archive that torch.save did not write, of {', '.join(names[:3])}")
    try:
        with torch.serialization.safe_globals(list(_inert_classes(file)) if zipped else []):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickled code, a cut-off file, other bytes: each has its own exception type
        text = str(error)
        if isinstance(error, EOFError) or "truncated" in text or "unexpected EOF" in text:
            raise _cut_off(file) from error
        if "GLOBAL" in text:
            raise _whole() from error
        kind = "is damaged, or holds more than tensors and settings" if zipped else "was not written by torch.save"
        raise _RefusalError(kind) from error
    if isinstance(content, Inert):
        raise _whole(type(content).__name__)
    return content


def _inert_classes(file: Path) -> Iterator[tuple[Any, str]]:
    """A class that does nothing for each class or function that torch would not make by itself, under its name."""
    names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    kinds = _containers(file) if names else {}
    for name in names:
        yield type(name, (kinds.get(name, Inert),), {}), name


def _containers(file: Path) -> dict[str, type]:
    """What stands for the classes of a file whose objects are filled one by one; torch fills nothing but its own."""
    with zipfile.ZipFile(file) as archive:
        inner = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        with archive.open(inner) as stream, suppress(Exception):  # torch's own error says more
            return _filled(stream)
    return {}


# What gives an object items or has things appended to it, and what makes or changes an object of a class.
_ITEMS, _APPENDED = ("SETITEM", "SETITEMS"), ("APPEND", "APPENDS")
_SAME = (*_ITEMS, *_APPENDED, "BUILD", "NEWOBJ", "NEWOBJ_EX", "REDUCE")


def _filled(stream: Any) -> dict[str, type]:
    """Which classes of a pickle have their objects filled, read off its operations: nothing of it is carried out."""
    kinds: dict[str, type] = {}
    stack: list[str] = []  # of each object its class, or a text itself
    marks: list[int] = []
    memo: dict[int, str] = {}
    for operation, argument, _ in pickletools.genops(stream):
        name = operation.name
        if name == "MARK":
            marks.append(len(stack))
        elif name.endswith("PUT") or name == "MEMOIZE":
            memo[len(memo) if argument is None else int(argument)] = stack[-1]
        elif name.endswith("GET"):
            stack.append(memo[int(argument or 0)])
        else:
            taken = _taken(operation, stack, marks)
            if name in _ITEMS:
                kinds[taken[0]] = _Mapped
            elif name in _APPENDED:
                kinds.setdefault(taken[0], _Listed)
            made = taken[0] if name in _SAME else ""
            if name == "GLOBAL":
                made = str(argument).replace(" ", ".")
            elif name == "STACK_GLOBAL":
                made = ".".join(taken)
            elif "UNICODE" in name:
                made = str(argument)
            stack.extend([made] * len(operation.stack_after))
    return kinds


def _taken(operation: pickletools.OpcodeInfo, stack: list[str], marks: list[int]) -> list[str]:
    """What an operation takes off the stack, the lowest first; all above a mark as well, where it takes that."""
    before = operation.stack_before
    if pickletools.markobject in before:
        del stack[marks.pop() :]
        before = before[: before.index(pickletools.markobject)]
    kept = len(stack) - len(before)
    taken = stack[kept:]
    del stack[kept:]
    return taken


def whole_classes(content: Any) -> list[str]:
    """Names of the classes whose objects lie directly in what a file holds."""
    values = content.values() if isinstance(content, dict) else content if isinstance(content, (list, tuple)) else ()
    return [type(value).__name__ for value in values if isinstance(value, Inert)]


def _whole(kind: str = "") -> _RefusalError:
    named = f" ({kind})" if kind else ""
    return _RefusalError(
        f"holds a whole pickled object{named}, which could run code: load it where its class is at hand, then "
        f"{_SAVE}, and give that file"
    )


def _cut_off(file: Path) -> _RefusalError:
    return _RefusalError(f"is cut off or damaged ({file.stat().st_size:,} bytes are there): copy or download it again")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".:")[:160] if lines else type(error).__name__
