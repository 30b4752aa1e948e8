"""A network of the user's own, by the place of what makes it: `FILE.py:NAME` or `MODULE:NAME`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ..errors import UserError, unknown
from .models import Model


class Home(str):
    """An entry of `sys.path`: a folder that a network was imported from."""

    __slots__ = ()


@dataclass(frozen=True)
class Address:
    """Where a network is made: `file` (a path) or else `module` (a dotted name), and the `name` in it."""

    file: Path | None
    module: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Address | None:
        """None for what is no address: nothing that ends in .py, and no colon."""
        place, colon, name = text.rpartition(":")
        if not colon or text.endswith(".py") or "/" in name or "\\" in name:
            place, name = text, ""
        if place.endswith(".py"):
            return cls(Path(place), "", name)
        if colon and place and all(part.isidentifier() for part in place.split(".")):
            return cls(None, place, name)
        return None

    def __str__(self) -> str:
        return f"{self.file or self.module}:{self.name}"


def make(address: Address, folder: Path | None = None) -> nn.Module | Model:
    """What a function, class or module of the user's makes.

    The file's own folder, or `folder` (default: the current one) for a module, is where imports look first meanwhile,
    and last from then on, for what is imported during a forward pass; what another such folder has under the same name
    is forgotten. torch's random numbers begin at 0, so that weights that are drawn are the same each time.

    Raises `UserError` for what is not there, for what needs arguments, for what is no network, and with file and line
    for any error of the user's code.
    """
    home = address.file.resolve().parent if address.file else (folder or Path.cwd()).resolve()
    if address.file is not None and not address.file.is_file():
        raise _no_file(address.file)
    # Printed text would stand in the midst of a result that is JSON.
    with _importable(home) as root, _as_it_was(), redirect_stdout(sys.stderr):
        module = _run(lambda: _imported(address, root), f"{address.file or address.module} cannot be imported", home)
        found = _named(module, address)
        if isinstance(found, (nn.Module, Model)):
            return found
        _check_callable(found, address)
        made = _run(found, f"{address} failed", home)
    if isinstance(made, (nn.Module, Model)):
        return made
    what = "nothing; is there a `return`?" if made is None else f"{type(made).__name__}."
    raise UserError(f"{address} has to return a torch.nn.Module or a featviz.Model; it returned {what}")


def names_in(module: ModuleType) -> list[str]:
    """What a module defines that could make a network: functions, classes of networks, networks."""
    own = []
    for name, value in vars(module).items():
        here = getattr(value, "__module__", None) == module.__name__
        network = isinstance(value, (nn.Module, Model)) or (
            here and inspect.isclass(value) and issubclass(value, nn.Module)
        )
        if not name.startswith("_") and (
            (here and (inspect.isfunction(value) or network)) or isinstance(value, nn.Module)
        ):
            own.append(name)
    return own


class _Fresh(SourceFileLoader):
    """Compiles a file each time: bytecode is kept by the second, and a file may change within one."""

    def path_stats(self, path: Any) -> Any:
        raise OSError


def _imported(address: Address, root: Path) -> ModuleType:
    importlib.invalidate_caches()
    if address.file is None:
        return importlib.import_module(address.module)
    file = address.file.resolve()
    if (file.parent / "__init__.py").is_file():  # of a package: what it imports may be relative to that
        dotted = ".".join(file.relative_to(root).with_suffix("").parts)
        sys.modules.pop(dotted, None)
        return importlib.import_module(dotted)
    known = sys.modules.get(file.stem)
    taken = known is not None and getattr(known, "__file__", None) != str(file)
    name = f"own_{file.stem}" if taken or not file.stem.isidentifier() else file.stem
    spec = importlib.util.spec_from_file_location(name, file, loader=_Fresh(name, str(file)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses, and what imports it in a circle, look for it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _importable(home: Path) -> Iterator[Path]:
    """The folder that imports look in, first meanwhile and last afterwards: above packages that `home` lies in."""
    root = home
    while (root / "__init__.py").is_file():
        root = root.parent
    _forget_namesakes(root)
    before = list(sys.path)
    sys.path.insert(0, str(root))
    try:
        yield root
    finally:
        known = Path(__file__).resolve().parents[2] == root or root in _homes(before)
        sys.path[:] = before if known else [*before, Home(root)]


def _homes(entries: Sequence[str]) -> set[Path]:
    return {Path(entry) for entry in entries if isinstance(entry, Home)}


def _forget_namesakes(root: Path) -> None:
    """Take out of `sys.modules` what came from another home and has a namesake in this one.

    Else a second folder would get the first one's code, as what is imported already is not looked for again.
    """
    others = _homes(sys.path) - {root}
    for name, module in list(sys.modules.items()):
        top, file = name.partition(".")[0], getattr(module, "__file__", None)
        if file and ((root / f"{top}.py").is_file() or (root / top).is_dir()):
            path = Path(file).resolve()
            if any(_lies_in(path, home, top) for home in others):
                del sys.modules[name]


def _lies_in(file: Path, home: Path, top: str) -> bool:
    """Whether a file is what `import top`, or something below it, finds in a home: not what is installed below that."""
    return home in file.parents and file.relative_to(home).parts[0] in (top, f"{top}.py")


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Random numbers, gradients and the type of new tensors are as before afterwards, whatever the user's code sets."""
    kind = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        try:
            yield
        finally:
            torch.set_default_dtype(kind)


def _named(module: ModuleType, address: Address) -> Any:
    choices = names_in(module)
    place = address.file or address.module
    if not address.name:
        listed = ", ".join(f"{place}:{name}" for name in choices[:5]) or "it defines no function and no network"
        raise UserError(f"{place} needs the name of what makes the network behind a colon: {listed}.")
    found: Any = module
    for part in address.name.split("."):
        if not hasattr(found, part):
            if not choices:
                raise UserError(
                    f"nothing in {place} is called {address.name!r}: it defines no function and no network."
                )
            raise unknown(f"name in {place}", address.name, choices)
        found = getattr(found, part)
    return found


def _check_callable(found: Any, address: Address) -> None:
    if not callable(found):
        kind = type(found).__name__
        raise UserError(f"{address} is a {kind}; what is wanted is a torch.nn.Module, or a function that returns one.")
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):  # of what is written in C nothing is known
        return
    needed = [each.name for each in parameters if each.default is each.empty and each.kind not in (2, 4)]
    if needed:
        raise UserError(
            f"{address} takes arguments ({', '.join(needed)}), and none can be given: write a function without, such "
            f"as `def make(): return {address.name}(...)`, and name that."
        )


def _run(call: Any, failed: str, home: Path) -> Any:
    try:
        return call()
    except (UserError, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{failed}: {_told(error, home)}") from error


def _told(error: BaseException, home: Path) -> str:
    """The place in the user's own code, and what was wrong there."""
    text = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}: {type(error).__name__}: {error.msg}"
    if isinstance(error, SystemExit):
        text = "the program ended itself; put what a program does under `if __name__ == '__main__':`"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    frames = [frame for frame in frames if Path(frame.filename) != Path(__file__)]
    own = _last_below(frames, home)
    where = "" if own is None else f"{_short(own.filename, home)}:{own.lineno}: "
    return f"{where}{type(error).__name__}: {text}"


def _last_below(frames: Sequence[traceback.FrameSummary], home: Path) -> traceback.FrameSummary | None:
    below = [frame for frame in frames if home in Path(frame.filename).resolve().parents]
    own = [frame for frame in below if "site-packages" not in frame.filename]
    return own[-1] if own else frames[-1] if frames else None


def _short(filename: str, home: Path) -> str:
    path = Path(filename).resolve()
    return str(path.relative_to(home)) if home in path.parents else path.name


def _no_file(file: Path) -> UserError:
    beside = [entry.name for entry in file.parent.glob("*.py")] if file.parent.is_dir() else []
    if not beside:
        return UserError(f"no file {str(file)!r}.")
    return unknown("file", str(file), [str(file.parent / name) for name in beside])
