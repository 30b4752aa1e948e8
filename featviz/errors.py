"""What every error of the three packages says: what was given, what is possible, the closest match."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class UserError(ValueError):
    """A wish that cannot be fulfilled as it stands; its text is meant for the person who made it."""


class NetworkWarning(UserWarning):
    """What a network does that makes results depend on more than the image: said once, results go on."""


def closest(name: str, choices: Sequence[str], count: int = 3) -> list[str]:
    """The `count` choices most like `name`, best first: by matching runs of letters, whatever the case."""
    lowered = name.lower()

    def likeness(choice: str) -> float:
        return difflib.SequenceMatcher(None, lowered, choice.lower()).ratio()

    return sorted(dict.fromkeys(choices), key=lambda choice: (-likeness(choice), choice))[:count]


def unknown(kind: str, name: str, choices: Sequence[str], hint: str = "") -> UserError:
    """The error for a name that is not among the `choices`: it names the three closest."""
    near = ", ".join(repr(choice) for choice in closest(name, choices))
    return UserError(f"no {kind} {name!r}; the closest are {near}." + (f" {hint}" if hint else ""))
