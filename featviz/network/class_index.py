"""A class by number or by name -> its number; what could mean two classes is asked back."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence

from ..errors import UserError, unknown

# Python reads no number of more than some thousand digits.
_NUMBER = r"\d{1,18}"
# Of classes that a text may mean, so many are told.
_TOLD = 9


def class_index(model: str, labels: Sequence[str], name: str | int) -> int:
    """The number of a class of the model called `model`; see `Model.class_index`."""
    if not isinstance(name, str):
        return _checked(model, labels, str(operator.index(name)))
    text = name.strip()
    if match := re.fullmatch(rf"#\s*({_NUMBER})", text):
        return _checked(model, labels, match[1])
    if text.startswith("=") and labels:
        return _by_name(labels, text[1:].strip())
    if re.fullmatch(_NUMBER, text, re.ASCII):
        _check_other_reading(labels, text)
        return _checked(model, labels, text)
    if not labels:
        raise UserError(f"{model} has no class names; give the class by its index.")
    return _by_likeness(labels, text)


def _checked(model: str, labels: Sequence[str], number: str) -> int:
    if int(number) < 0 or (labels and int(number) >= len(labels)):
        raise UserError(f"no class {number}: {model} has classes 0 to {len(labels) - 1}." if labels else
                        f"no class {number}: classes are numbered from 0.")  # fmt: skip
    return int(number)


def has_other_reading(labels: Sequence[str], number: int) -> bool:
    """Whether a class's number is also the name of classes, and of other ones."""
    return _called(labels, number) not in ([], [number])


def _called(labels: Sequence[str], number: int) -> list[int]:
    """The classes whose names are this number."""
    return [i for i, label in enumerate(labels) if re.fullmatch(_NUMBER, label.strip()) and int(label) == number]


def _check_other_reading(labels: Sequence[str], text: str) -> None:
    """Raise `UserError` where it has one."""
    if not has_other_reading(labels, int(text)):
        return
    called = _called(labels, int(text))
    own = f"class number {text} is called {labels[int(text)]!r}" if int(text) < len(labels) else (
        f"there is no class number {text}, only 0 to {len(labels) - 1}")  # fmt: skip
    raise UserError(
        f"{text!r} can be a class's number or its name: {own}, and the class called {labels[called[0]]!r} is number "
        f"{_listing(called)}. Write '#{text}' for the number or '={labels[called[0]]}' for the name (as a unit, "
        f"class:#{text} or class:={labels[called[0]]})."
    )


def _by_name(labels: Sequence[str], text: str) -> int:
    """The class of this whole name, in these very letters, else in any case."""
    for exact in ([i for i, label in enumerate(labels) if label.strip() == text],
                  [i for i, label in enumerate(labels) if label.strip().lower() == text.lower()]):  # fmt: skip
        if exact:
            return _only(labels, exact, text)
    raise unknown("class", text, labels)


def _by_likeness(labels: Sequence[str], text: str) -> int:
    lowered, wanted = [label.strip().lower() for label in labels], text.lower()
    for matches in (
        [i for i, label in enumerate(labels) if label.strip() == text],
        [i for i, label in enumerate(lowered) if label == wanted],
        [i for i, label in enumerate(lowered) if wanted in label.split(", ")],
    ):
        if matches:
            return _only(labels, matches, text)
    beginnings = [i for i, label in enumerate(lowered) if label.startswith(wanted)] if wanted else []
    if len({lowered[i] for i in beginnings}) == 1:
        return _only(labels, beginnings, text)
    raise unknown("class", text, labels)


def _only(labels: Sequence[str], matches: list[int], text: str) -> int:
    """The one match; `UserError` with the numbers of all where there are several."""
    if len(matches) == 1:
        return matches[0]
    names = {labels[i] for i in matches}
    each = "" if len(names) == 1 else " (" + ", ".join(f"{i}: {labels[i]!r}" for i in matches[:_TOLD]) + ")"
    raise UserError(
        f"{len(matches)} classes are called {text!r}: numbers {_listing(matches)}{each}. Give the number: "
        f"'#{matches[0]}' (as a unit, class:#{matches[0]})."
    )


def _listing(numbers: list[int]) -> str:
    told = [str(number) for number in numbers[:_TOLD]]
    if len(numbers) > _TOLD:
        return ", ".join(told) + ", ..."
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"
