"""What is looked at in a layer: its channels, or directions in the space that they span."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from featviz.errors import UserError
from featviz.network.layers import OUTPUT, find_layers
from featviz.network.models import Model
from featviz.network.trunk import Trunk
from featviz.network.units import load_directions


@dataclass(frozen=True, eq=False)
class Readout:
    """The units that are looked at in a layer: its channels, or its products with directions (n, channels).

    Directions are what a dictionary learner, a principal component analysis or a difference of two classes' weights
    gives; `title` tells several sets of one layer apart. Raises `UserError` for directions that are not finite vectors.
    """

    layer: str
    directions: Tensor | None = None
    title: str = "directions"

    def __post_init__(self) -> None:
        if self.directions is None:
            return
        # Rows of a decoder or of a classifier come from any device, in any precision, with gradients.
        object.__setattr__(self, "directions", self.directions.detach().float().cpu().contiguous())
        if self.directions.dim() != 2 or not self.directions.isfinite().all():
            raise UserError(f"directions are finite vectors (n, channels); got shape {tuple(self.directions.shape)}.")

    @property
    def name(self) -> str:
        """LAYER, or LAYER:TITLE."""
        return self.layer if self.directions is None else f"{self.layer}:{self.title}"

    @property
    def fingerprint(self) -> str:
        """Of the directions, 16 hexadecimal digits; empty for channels."""
        if self.directions is None:
            return ""
        return hashlib.sha256(self.directions.numpy().tobytes()).hexdigest()[:16]

    def unit(self, number: int) -> str:
        """How one of its units is written on the command line."""
        return f"{self.name}:{number}" if self.directions is None else f"{self.name}#{number}"

    def count(self, model: Model) -> int:
        """How many units it has in a network."""
        return _channels(model, self.layer) if self.directions is None else len(self.directions)

    def maps(self, maps: Tensor) -> Tensor:
        """The units' own maps (n, units, h, w) of the layer's (n, channels, h, w)."""
        if self.directions is None:
            return maps
        if maps.shape[1] != self.directions.shape[1]:
            raise UserError(
                f"the directions {self.title!r} have {self.directions.shape[1]} numbers; "
                f"{self.layer} has {maps.shape[1]} channels."
            )
        return torch.einsum("nchw,uc->nuhw", maps, self.directions.to(maps))

    @classmethod
    def of_file(cls, layer: str, file: str, channels: int) -> Readout:
        """The directions of a .npy file (n, channels); raises `UserError` for a file that does not fit."""
        return cls(layer, torch.from_numpy(load_directions(file, layer, channels)).float(), file)


def readouts(model: Model, wanted: Sequence[str | Readout]) -> list[Readout]:
    """What words and readouts mean, each once: a layer's name, a glob, `output`, or LAYER:FILE.npy for directions.

    Raises `UserError` for what means no layer.
    """
    found: list[Readout] = []
    for each in wanted:
        if isinstance(each, Readout):
            _layers(model, each.layer)
            found.append(each)
            continue
        pattern, _, file = each.partition(":")
        for layer in _layers(model, pattern):
            found.append(Readout.of_file(layer, file, _channels(model, layer)) if file else Readout(layer))
    if not found:
        raise UserError("name at least one layer, such as blocks.5.")
    named: dict[str, Readout] = {}
    for each in found:
        if named.setdefault(each.name, each).fingerprint != each.fingerprint:
            raise UserError(f"two sets of directions are called {each.name!r}: give them titles of their own.")
    return list(named.values())


def _layers(model: Model, pattern: str) -> list[str]:
    return [OUTPUT] if pattern == OUTPUT else find_layers(model.network, pattern)


def _channels(model: Model, layer: str) -> int:
    return Trunk(model, [layer], fold=False).map_size(layer)[0]
