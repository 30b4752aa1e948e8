"""Objectives: activations -> one score per picture. They add, subtract and scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import UserError
from ..network.layers import OUTPUT
from ..network.trunk import Trunk
from ..network.units import Place, Unit


@dataclass(frozen=True)
class Activations:
    """What an objective sees of a batch of n pictures.

    `maps`: layer name -> (n, c, h, w), of the pictures' transformed views; `images`: (n, channels, h, w) in [0, 1], the
    pictures themselves, before any transform; `index`: (n,) which picture of the objective each one is.
    """

    maps: Mapping[str, Tensor]
    images: Tensor
    index: Tensor


@dataclass(frozen=True)
class Objective:
    """What a picture is to excite: `score` maps `Activations` of n pictures to (n,) scores, higher is better.

    `layers`: the layers it reads; `count`: how many pictures it describes, None if it is the same for any number;
    `group`: so many consecutive pictures are drawn together, because their scores depend on each other; `free`: it
    means the same on maps of any size, as a mean or the centre does, and a row and column does not.
    """

    layers: tuple[str, ...]
    score: Callable[[Activations], Tensor]
    count: int | None = None
    group: int = 1
    free: bool = False

    def __call__(self, activations: Activations) -> Tensor:
        """Scores (n,); raises `UserError` when the score function returns any other shape."""
        scores = self.score(activations)
        expected = (len(activations.images),)
        if tuple(scores.shape) != expected:
            raise UserError(f"an objective returns one score per picture, shape {expected}; got {tuple(scores.shape)}.")
        return scores

    def __add__(self, other: Objective) -> Objective:
        counts = {count for count in (self.count, other.count) if count is not None}
        if len(counts) > 1:
            raise UserError(f"objectives of {self.count} and {other.count} pictures cannot be added.")
        layers = tuple(dict.fromkeys(self.layers + other.layers))
        group = math.lcm(self.group, other.group)
        count = counts.pop() if counts else None
        return Objective(layers, lambda acts: self(acts) + other(acts), count, group, self.free and other.free)

    def __mul__(self, factor: float) -> Objective:
        return replace(self, score=lambda acts: self(acts) * factor)

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return self * -1.0

    def __sub__(self, other: Objective) -> Objective:
        return self + -other


def within(objective: Objective, layer: str, channels: Sequence[int]) -> Objective:
    """The objective in a subspace: of the layer it sees these channels alone, in this order."""
    wanted = list(channels)

    def score(acts: Activations) -> Tensor:
        return objective(replace(acts, maps={**acts.maps, layer: acts.maps[layer][:, wanted]}))

    return replace(objective, score=score)


def on(layer: str, score: Callable[[Tensor], Tensor]) -> Objective:
    """Any function of a layer's activations (n, c, h, w) -> (n,) as an objective."""
    return Objective((layer,), lambda acts: score(acts.maps[layer]))


def channel(
    layer: str, channels: int | Sequence[int], *, at: Place = None, weights: Sequence[float] | None = None
) -> Objective:
    """Mean of one channel per picture over the map, or its value at one place; `weights` scale each picture's score.

    Olah et al. 2017, "Feature Visualization": the channel and the neuron objective.
    """
    wanted = torch.tensor([channels] if isinstance(channels, int) else list(channels))
    factors = torch.ones(len(wanted)) if weights is None else torch.tensor(list(weights))

    def score(acts: Activations) -> Tensor:
        values = look(acts.maps[layer], at)
        chosen = wanted.to(acts.index.device)[acts.index]
        return values.gather(1, chosen[:, None])[:, 0] * factors.to(values)[acts.index]

    return Objective((layer,), score, len(wanted), free=not isinstance(at, tuple))


def neuron(layer: str, channels: int | Sequence[int], *, at: Place = "center") -> Objective:
    """The value of one channel at one place per picture: a single neuron, by default the one in the map's centre."""
    return channel(layer, channels, at=at)


def class_logit(classes: int | Sequence[int]) -> Objective:
    """A class's logit per picture, before softmax, so that it grows by its own evidence and not by others' lack."""
    return channel(OUTPUT, classes)


def deepdream(layer: str) -> Objective:
    """More of whatever the layer sees already: the mean of its squared activations. Mordvintsev et al. 2015."""
    return replace(on(layer, lambda maps: maps.square().mean((1, 2, 3))), free=True)


def dot(layer: str, vectors: Tensor, *, at: Place = None) -> Objective:
    """Product of the activation with each picture's vector, (pictures, channels): a channel where that is one-hot.

    The activation is the map's mean, or its value `at` the centre or at (row, column).
    """

    def score(acts: Activations) -> Tensor:
        h = look(acts.maps[layer], at)
        return (h * vectors.to(h)[acts.index]).sum(1)

    return Objective((layer,), score, len(vectors), free=not isinstance(at, tuple))


def direction(
    layer: str,
    vectors: Tensor,
    *,
    at: Place = "center",
    power: float = 4.0,
    floor: float = 0.1,
    whitening: Tensor | None = None,
) -> Objective:
    """Excite a direction of activation space: `dot * max(floor, cos)**power` with h the activation and v the vector.

    vectors: (pictures, channels), of any length: only their direction counts. cos is the true cosine of h and v. The
    power trades strength for purity; the floor keeps a gradient where the cosine is negative. whitening: (channels,
    channels), v becomes v @ whitening: with the inverse second moment of the layer, what sets v apart from the rest
    counts, not what all activations share. Carter et al. 2019, "Activation Atlas", which gives
    `(h.v)**(n+1) / (|h| |v|)**n`.
    """
    unit_vectors = torch.nn.functional.normalize(vectors if whitening is None else vectors @ whitening, dim=1)

    def score(acts: Activations) -> Tensor:
        h = look(acts.maps[layer], at)
        wanted = unit_vectors.to(h)[acts.index]
        dot = (h * wanted).sum(1)
        if power == 0:
            return dot
        cos = dot / h.norm(dim=1).clamp(min=1e-12)
        strength: Tensor = dot * cos.clamp(min=floor).pow(power)
        return strength

    return Objective((layer,), score, len(vectors), free=not isinstance(at, tuple))


def cosine(layer: str, vectors: Tensor, *, at: Place = "center") -> Objective:
    """Cosine, in [-1, 1], of the activation with each picture's vector; vectors: (pictures, channels)."""
    unit_vectors = torch.nn.functional.normalize(vectors, dim=1)

    def score(acts: Activations) -> Tensor:
        h = look(acts.maps[layer], at)
        return torch.nn.functional.cosine_similarity(h, unit_vectors.to(h)[acts.index], dim=1)

    return Objective((layer,), score, len(vectors), free=not isinstance(at, tuple))


def of_units(units: Sequence[Unit], trunk: Trunk) -> Objective:
    """The objective whose picture number i excites `units[i]`; all units lie in one layer, at one kind of place.

    trunk: reads that layer. The score is the unit's own activation, for a negative unit its opposite.
    """
    layers, positions = {unit.layer for unit in units}, {unit.position for unit in units}
    if len(layers) != 1 or len(positions) != 1:
        raise UserError(f"one objective takes units of one layer and position; got {sorted(layers)}, {positions}.")
    layer = layers.pop()
    channels, _, _ = trunk.map_size(layer)
    return dot(layer, torch.stack([unit.direction(channels) for unit in units]), at=positions.pop())


def diversity(layer: str, group: int) -> Objective:
    """How little a picture's texture has in common with the others of its group, in [-1, 0]; 0: nothing.

    Minus the mean cosine between the Gram matrices (channel by channel products over the map) of the `group`
    consecutive pictures. Olah et al. 2017, "Feature Visualization": the diversity term.
    """

    def score(acts: Activations) -> Tensor:
        maps = acts.maps[layer].flatten(2)
        grams = torch.nn.functional.normalize((maps @ maps.transpose(1, 2)).flatten(1), dim=1)
        together = grams.reshape(-1, group, grams.shape[1])
        alike: Tensor = together @ together.transpose(1, 2)
        return ((1 - alike.sum(2)) / (group - 1)).flatten()

    return Objective((layer,), score, group=_checked_group(group), free=True)


def group_of(*objectives: Objective | None) -> int:
    """So many consecutive pictures are drawn together, where the objectives are met at once."""
    return math.lcm(*(each.group for each in objectives if each is not None))


def alignment(layer: str, group: int, *, decay: float = 0.3) -> Objective:
    """How near a picture's activations are to those of the others of its group, at the same places; at most 0.

    Minus the mean squared difference of the maps, the pictures d places away counting decay**(d - 1). Along a row of
    directions it makes the pictures morph rather than jump. Mordvintsev et al. 2018, "Differentiable Image
    Parameterizations": aligned interpolation.
    """
    apart = (torch.arange(group)[:, None] - torch.arange(group)[None]).abs()
    weights = torch.where(apart > 0, decay ** (apart - 1.0), 0.0)
    weights = weights / weights.sum(1, keepdim=True)

    def score(acts: Activations) -> Tensor:
        maps = acts.maps[layer].flatten(1)
        maps = maps.reshape(-1, group, maps.shape[1])
        differences: Tensor = (maps[:, :, None] - maps[:, None]).square().mean(3)
        # Cloned, for a backward pass takes no tensor that was made in a caller's inference mode.
        return -(differences * weights.clone().to(maps)).sum(2).flatten()

    return Objective((layer,), score, group=_checked_group(group), free=True)


def _checked_group(group: int) -> int:
    if group < 2:
        raise UserError(f"pictures are compared within groups of two or more; got {group}.")
    return group


def look(maps: Tensor, at: Place) -> Tensor:
    """Maps (n, c, h, w) -> (n, c): their spatial mean, the values at the centre (h // 2, w // 2), or at (row, col)."""
    if at is None:
        return maps.mean((2, 3))
    row, column = (maps.shape[2] // 2, maps.shape[3] // 2) if at == "center" else at
    return maps[:, :, row, column]
