"""The text of a unit's address taken apart and put together; nothing here looks into a network."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import UserError

_FORMS = "LAYER:CHANNEL, LAYER:0-31,40, LAYER:*, LAYER:CHANNEL@ROW,COL or class:NAME"
# The word before a class's name.
CLASS = "class"
_PLACE = r"cent(?:er|re)|\d{1,18},\d{1,18}"


@dataclass(frozen=True)
class Address:
    """`layer` as it was written, `exact` where it is a name and no glob; `target`: what is behind the colon; `place`.

    negative: a `-` stands before all.
    """

    layer: str
    target: str
    place: str | None
    negative: bool
    exact: bool = False


def taken_apart(text: str, is_layer: Callable[[str], bool], is_glob: Callable[[str], bool]) -> Address:
    """The parts of a unit's address.

    A layer in quotes, `'a:b':1` or `"a:b":1` with a quote in it doubled, is that layer and nothing else. Without, it is
    the longest name before a colon that is a layer, else the longest that some layers match, else all before the first
    colon. Raises `UserError` for a text of another form.
    """
    whole = text.strip()
    quoted = re.fullmatch(r"(?s)(-?)(?:'((?:[^']|'')+)'|\"((?:[^\"]|\"\")+)\"):(.+)", whole)
    if quoted:
        sign, single, double, rest = quoted.groups()
        name = single.replace("''", "'") if single is not None else double.replace('""', '"')
        return Address(name, *_target(rest), bool(sign), exact=True)
    negative = whole.startswith("-")
    for signed in [True, False] if negative else [False]:  # a layer's own name may begin with a minus
        body = whole[1:] if signed else whole
        if body.startswith(f"{CLASS}:") and body != f"{CLASS}:":
            return Address(CLASS, body[len(CLASS) + 1 :], None, signed)
        splits = [match.start() for match in re.finditer(":", body) if 0 < match.start() < len(body) - 1]
        for fits in (is_layer, is_glob):
            for at in reversed(splits):
                if fits(body[:at]):
                    return Address(body[:at], *_target(body[at + 1 :]), signed, exact=fits is is_layer)
    body = whole[1:] if negative else whole
    layer, colon, rest = body.partition(":")
    if not (layer and colon and rest):
        raise UserError(f"{text!r} is no unit; write {_FORMS}.")
    return Address(layer, *_target(rest), negative)


def split_place(text: str) -> tuple[str, str | None]:
    """`sky@3,4` -> `sky`, `3,4`; a text that ends in no place -> itself, None."""
    match = re.fullmatch(rf"(?s)(.+)@({_PLACE})", text)
    return (match[1], match[2]) if match else (text, None)


def _target(rest: str) -> tuple[str, str | None]:
    """What is behind a layer's colon, and the place behind its `@`; a file's name may hold an `@` too."""
    name, place = split_place(rest)
    if place is None and "@" in rest and "#" not in rest.rpartition("@")[2]:
        name, _, place = rest.rpartition("@")  # no place, which is said where it is looked at
    return name, place


def quoted_where_needed(layer: str, target: str) -> str:
    """A layer's name, in quotes where without them it would be read as something else before `:` and the target."""
    misread = (
        layer != layer.strip() or layer.startswith(("-", "'", '"', f"{CLASS}:")) or layer == CLASS or ":" in target
    )
    return "'" + layer.replace("'", "''") + "'" if misread else layer
