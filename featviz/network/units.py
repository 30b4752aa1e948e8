"""Unit: the address of what is pictured, written `LAYER:CHANNEL`, `LAYER:CHANNEL@ROW,COL` or `class:NAME`."""

from __future__ import annotations

import fnmatch
import re
import stat
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .address import CLASS, quoted_where_needed, split_place, taken_apart
from .answer import refuse_features
from .class_index import has_other_reading
from .layers import OUTPUT, find_layer, find_layers, layer_names, split_token
from .models import Model
from .tokens import at_token, is_token
from .trunk import Trunk

# Where in a layer's map: (row, column), the centre, or its mean over all places.
Place = tuple[int, int] | Literal["center"] | None
# Python reads no number of more than some thousand digits.
_NUMBER = r"\d{1,18}"


@dataclass(frozen=True)
class Unit:
    """One channel of a layer (its spatial mean), or one neuron where `position` is set; `sign` -1: its opposite.

    `position`: (row, column) in the layer's map, `center`, or None for the whole channel. `vectors`: a .npy file of
    directions (n, c); `channel` is then the row of the direction. A class is a channel of the layer `output`; a class
    or register token's channel, written `LAYER:CHANNEL@cls`, is one of the layer `LAYER@cls` (see `tokens`).
    """

    layer: str
    channel: int
    position: Place = None
    sign: Literal[1, -1] = 1
    vectors: str = ""
    # What stands before a class's number, no part of what it is: `class:#` where the number is another class's name,
    # too, `output:` where what the network returns has no names.
    written: str = field(default=f"{CLASS}:", compare=False, repr=False)

    def __str__(self) -> str:
        sign = "-" if self.sign < 0 else ""
        if self.is_class and not self.vectors and self.position is None:
            return f"{sign}{self.written}{self.channel}"
        target = f"{self.vectors}#{self.channel}" if self.vectors else str(self.channel)
        place = "" if self.position is None else f"@{self.position}"
        if isinstance(self.position, tuple):
            place = f"@{self.position[0]},{self.position[1]}"
        layer, token = split_token(self.layer)
        place = f"@{token}" if token else place
        return f"{sign}{quoted_where_needed(layer, target)}:{target}{place}"

    @property
    def is_class(self) -> bool:
        """Whether it is a number that the whole network returns: a class's logit."""
        return self.layer == OUTPUT

    def activation(self, seen: Tensor) -> Tensor:
        """The unit's own activation (n,) of (n, channels), its layer seen where the unit is."""
        if not self.vectors:  # a product with a one-hot vector would pass on what is not finite in other channels
            return seen[:, self.channel] * self.sign
        return seen @ self.direction(seen.shape[1]).to(seen)

    def direction(self, channels: int) -> Tensor:
        """(channels,) the vector whose product with the layer's activation is the unit's own activation.

        Raises `UserError` where a file of directions does not fit the layer.
        """
        if not self.vectors:
            return torch.nn.functional.one_hot(torch.tensor(self.channel), channels).float() * self.sign
        return torch.from_numpy(load_directions(self.vectors, self.layer, channels)[self.channel]).float() * self.sign


def parse_units(text: str, model: Model) -> list[Unit]:
    """Units named by one word: `LAYER:CHANNEL[@ROW,COL|@center|@cls|@register0]` or `class:NAME[@...]`; `-` for minus.

    CHANNELS is a number, a range `0-31`, a list `0-31,40`, `*`, or `FILE.npy#ROWS` for directions. LAYER is a layer's
    name, `output` for what the network returns, or a glob; a name that is a layer's is never taken for a glob, and in
    quotes, `'a:b':1`, for nothing else. NAME is a class's name or index, `#3` the index and `=NAME` the name where they
    could be confused; of a network that returns maps, a class is its channel. Raises `UserError` for words that name
    nothing, with the layer's number of channels or the closest names.
    """
    known = {OUTPUT, *layer_names(model.network)}
    address = taken_apart(text, known.__contains__, lambda glob: bool(fnmatch.filter(known - {OUTPUT}, glob)))
    sign: Literal[1, -1] = -1 if address.negative else 1
    if address.layer == CLASS and not address.exact:
        return [_class_unit(text, address.target, sign, model)]
    if address.exact:
        find_layer(model.network, address.layer)
    layers = [address.layer] if address.exact else find_layers(model.network, address.layer)
    place = address.place
    if is_token(place):
        layers, place = at_token(layers, str(place)), None
    trunk = Trunk(model, layers, fold=False)
    units = []
    for layer in layers:
        channels, rows, columns = trunk.map_size(layer)
        file, _, numbers = address.target.rpartition("#")
        count = len(load_directions(file, layer, channels)) if file else channels
        position = _position(place, text, rows, columns)
        for channel in _channels(numbers, text, file or layer, count):
            units.append(Unit(layer, channel, position, sign, file, f"{CLASS if model.labels else OUTPUT}:"))
    return units


def _class_unit(text: str, name: str, sign: Literal[1, -1], model: Model) -> Unit:
    refuse_features(model, text)
    whole, place = (name, None) if name.removeprefix("=") in model.labels else split_place(name)
    index = model.class_index(whole)
    count, rows, columns = Trunk(model, [OUTPUT], fold=False).map_size(OUTPUT)
    if index >= count:
        raise UserError(f"{text!r}: {model.name} returns {count} x {rows} x {columns} numbers, not that class's logit.")
    position = _position(place, text, rows, columns)
    return Unit(OUTPUT, index, position, sign, written=f"{CLASS}:{'#' * has_other_reading(model.labels, index)}")


def load_directions(file: str, layer: str, channels: int) -> np.ndarray:
    """The directions (n, channels) of a layer in a .npy file, read again only after it has changed.

    Raises `UserError` for a file that is none or does not fit the layer.
    """
    try:
        about = Path(file).stat()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise UserError(f"{file!r} is no .npy file of directions: {error}.") from error
    if not stat.S_ISREG(about.st_mode):
        raise UserError(f"{file!r} is no .npy file of directions: it is no regular file.")
    vectors = _read_vectors(file, about.st_mtime_ns)
    if vectors.shape[1] != channels:
        raise UserError(f"{file} holds vectors of {vectors.shape[1]} numbers; {layer} has {channels}.")
    return vectors


@lru_cache(maxsize=4)
def _read_vectors(file: str, changed: int) -> np.ndarray:
    try:
        with Path(file).open("rb") as stream:
            stored: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    except Exception as error:  # numpy raises EOFError, TypeError, MemoryError, ... by how a file is damaged
        raise UserError(f"{file!r} is no .npy file of directions: {error}.") from error
    if stored.ndim != 2 or stored.dtype.kind not in "fiu":
        raise UserError(f"{file!r} must hold vectors of numbers (n, channels); it is {stored.dtype} {stored.shape}.")
    with np.errstate(over="ignore"):
        vectors = stored.astype(np.float32)  # in the machine's own byte order, too, which torch wants
    if not np.isfinite(vectors).all():
        raise UserError(f"{file!r} must hold finite vectors; some of its numbers are not, or too large.")
    return vectors


def _channels(text: str, whole: str, layer: str, count: int) -> list[int]:
    if text == "*":
        return list(range(count))
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(rf"\s*({_NUMBER})(?:-({_NUMBER}))?\s*", part)
        if not match:
            raise UserError(f"{part!r} in {whole!r} is no channel; write a number, a range 0-31 or *.")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last or last >= count:
            raise UserError(f"{whole!r} asks for channel {max(first, last)}: {layer} has channels 0 to {count - 1}.")
        found.extend(range(first, last + 1))
    return list(dict.fromkeys(found))


def _position(text: str | None, whole: str, rows: int, columns: int) -> Place:
    if text is None:
        return None
    if text in ("center", "centre"):
        return "center"
    match = re.fullmatch(rf"({_NUMBER}),({_NUMBER})", text)
    if not match:
        raise UserError(f"{text!r} in {whole!r} is no position; write ROW,COL, center, or of tokens cls or register0.")
    row, column = int(match[1]), int(match[2])
    if row >= rows or column >= columns:
        raise UserError(f"{whole!r} lies outside the layer's map of {rows} rows and {columns} columns.")
    return (row, column)
