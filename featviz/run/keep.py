"""Where a run keeps what it has made, so that a later run of the same settings does not make it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


class Keep(Protocol):
    """Intermediate results by name: an `OutputFolder`, or nowhere."""

    def has(self, name: str) -> bool:
        """Whether an earlier run left the result."""
        ...

    def arrays(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """The result as an earlier run left it, else computed and kept."""
        ...

    def room(self, name: str) -> Path | None:
        """An empty folder for a result that is larger than memory, None where there is no folder."""
        ...

    def latest(self, name: str) -> tuple[int, Arrays] | None:
        """How far the named step-by-step work had come, and what it had made by then; None before its first step."""
        ...

    def advance(self, name: str, step: int, arrays: Arrays) -> None:
        """Keep what the named work has made by `step`, in place of what it had made by an earlier one."""
        ...


@dataclass(frozen=True)
class Nowhere:
    """The `Keep` of a run without a folder: everything is computed."""

    def has(self, name: str) -> bool:
        return False

    def arrays(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        return compute()

    def room(self, name: str) -> Path | None:
        return None

    def latest(self, name: str) -> tuple[int, Arrays] | None:
        return None

    def advance(self, name: str, step: int, arrays: Arrays) -> None: ...


NOWHERE: Keep = Nowhere()


@dataclass(frozen=True)
class Under:
    """A `Keep` whose results have names of their own, for one of several pieces of work in a folder."""

    prefix: str
    keep: Keep

    def has(self, name: str) -> bool:
        return self.keep.has(f"{self.prefix}-{name}")

    def arrays(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        return self.keep.arrays(f"{self.prefix}-{name}", compute)

    def room(self, name: str) -> Path | None:
        return self.keep.room(f"{self.prefix}-{name}")

    def latest(self, name: str) -> tuple[int, Arrays] | None:
        return self.keep.latest(f"{self.prefix}-{name}")

    def advance(self, name: str, step: int, arrays: Arrays) -> None:
        self.keep.advance(f"{self.prefix}-{name}", step, arrays)
