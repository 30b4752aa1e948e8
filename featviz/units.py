"""Unit: the address of what is pictured, written `LAYER:CHANNEL`, `LAYER:CHANNEL@ROW,COL` or `class:NAME`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from . import objectives
from .errors import UserError
from .layers import find_layers
from .models import Model
from .objectives import Objective
from .trunk import Trunk

Position = tuple[int, int] | Literal["center"] | None


@dataclass(frozen=True)
class Unit:
    """One channel of a layer (its spatial mean), or one neuron where `position` is set; `sign` -1: its opposite.

    `position`: (row, column) in the layer's map, `center`, or None for the whole channel.
    """

    layer: str
    channel: int
    position: Position = None
    sign: Literal[1, -1] = 1

    def __str__(self) -> str:
        place = "" if self.position is None else f"@{self.position}"
        if isinstance(self.position, tuple):
            place = f"@{self.position[0]},{self.position[1]}"
        return f"{'-' if self.sign < 0 else ''}{self.layer}:{self.channel}{place}"


def parse_units(text: str, model: Model) -> list[Unit]:
    """Units named by one word: `LAYER:CHANNELS[@ROW,COL|@center]`, a leading `-` turns the sign.

    CHANNELS is a number, a range `0-31`, a list `0-31,40` or `*`; LAYER may be a glob. Raises `UserError` for words
    that name nothing, with the layer's number of channels or the closest names.
    """
    match = re.fullmatch(r"(?P<sign>-?)(?P<layer>[^:@]+):(?P<channels>[^@]+)(@(?P<position>.+))?", text.strip())
    if not match:
        raise UserError(f"{text!r} is no unit; write LAYER:CHANNEL, LAYER:0-31,40, LAYER:* or LAYER:CHANNEL@ROW,COL.")
    layers = find_layers(model.network, match["layer"])
    trunk = Trunk(model, layers, fold=False)
    units = []
    for layer in layers:
        channels, rows, columns = trunk.map_size(layer)
        position = _position(match["position"], text, rows, columns)
        for channel in _channels(match["channels"], text, layer, channels):
            units.append(Unit(layer, channel, position, -1 if match["sign"] else 1))
    return units


def objective(units: Sequence[Unit]) -> Objective:
    """The objective whose picture number i excites `units[i]`; all units lie in one layer, at one kind of place."""
    layers, positions = {unit.layer for unit in units}, {unit.position for unit in units}
    if len(layers) != 1 or len(positions) != 1:
        raise UserError(f"one objective takes units of one layer and position; got {sorted(layers)}, {positions}.")
    signs = [float(unit.sign) for unit in units]
    return objectives.channel(layers.pop(), [unit.channel for unit in units], at=positions.pop(), weights=signs)


def _channels(text: str, whole: str, layer: str, count: int) -> list[int]:
    if text == "*":
        return list(range(count))
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match:
            raise UserError(f"{part!r} in {whole!r} is no channel; write a number, a range 0-31 or *.")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last or last >= count:
            raise UserError(f"{whole!r} asks for channel {max(first, last)}: {layer} has channels 0 to {count - 1}.")
        found.extend(range(first, last + 1))
    return list(dict.fromkeys(found))


def _position(text: str | None, whole: str, rows: int, columns: int) -> Position:
    if text is None:
        return None
    if text in ("center", "centre"):
        return "center"
    match = re.fullmatch(r"(\d+),(\d+)", text)
    if not match:
        raise UserError(f"{text!r} in {whole!r} is no position; write ROW,COL or center.")
    row, column = int(match[1]), int(match[2])
    if row >= rows or column >= columns:
        raise UserError(f"{whole!r} lies outside the layer's map of {rows} rows and {columns} columns.")
    return (row, column)
