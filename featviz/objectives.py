"""Objectives: activations -> one score per picture. They add, subtract and scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .errors import UserError

Place = tuple[int, int] | Literal["center"] | None


@dataclass(frozen=True)
class Activations:
    """What an objective sees of a batch of n pictures.

    `maps`: layer name -> (n, c, h, w); `images`: (n, channels, h, w) in [0, 1] as they enter the network; `index`:
    (n,) which picture of the objective each one is.
    """

    maps: Mapping[str, Tensor]
    images: Tensor
    index: Tensor


@dataclass(frozen=True)
class Objective:
    """What a picture is to excite: `score` maps `Activations` of n pictures to (n,) scores, higher is better.

    `layers`: the layers it reads; `count`: how many pictures it describes, None if it is the same for any number.
    """

    layers: tuple[str, ...]
    score: Callable[[Activations], Tensor]
    count: int | None = None

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
        return Objective(layers, lambda acts: self(acts) + other(acts), counts.pop() if counts else None)

    def __mul__(self, factor: float) -> Objective:
        return Objective(self.layers, lambda acts: self(acts) * factor, self.count)

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return self * -1.0

    def __sub__(self, other: Objective) -> Objective:
        return self + -other


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

    return Objective((layer,), score, len(wanted))


def dot(layer: str, vectors: Tensor, *, at: Place = None) -> Objective:
    """Product of the activation with each picture's vector, (pictures, channels): a channel where that is one-hot.

    The activation is the map's mean, or its value `at` the centre or at (row, column).
    """

    def score(acts: Activations) -> Tensor:
        h = look(acts.maps[layer], at)
        return (h * vectors.to(h)[acts.index]).sum(1)

    return Objective((layer,), score, len(vectors))


def direction(
    layer: str, vectors: Tensor, *, at: Place = "center", power: float = 4.0, floor: float = 0.1
) -> Objective:
    """Excite a direction of activation space: `dot * max(floor, cos)**power` with h the activation and v the vector.

    vectors: (pictures, channels), of any length: only their direction counts. cos is the true cosine of h and v. The
    power trades strength for purity; the floor keeps a gradient where the cosine is negative. Carter et al. 2019,
    "Activation Atlas", which gives (h.v)**(n+1) / (|h| |v|)**n.
    """
    unit_vectors = torch.nn.functional.normalize(vectors, dim=1)

    def score(acts: Activations) -> Tensor:
        h = look(acts.maps[layer], at)
        wanted = unit_vectors.to(h)[acts.index]
        dot = (h * wanted).sum(1)
        if power == 0:
            return dot
        cos = dot / h.norm(dim=1).clamp(min=1e-12)
        strength: Tensor = dot * cos.clamp(min=floor).pow(power)
        return strength

    return Objective((layer,), score, len(vectors))


def cosine(layer: str, vectors: Tensor, *, at: Place = "center") -> Objective:
    """Cosine, in [-1, 1], of the activation with each picture's vector; vectors: (pictures, channels)."""
    unit_vectors = torch.nn.functional.normalize(vectors, dim=1)

    def score(acts: Activations) -> Tensor:
        h = look(acts.maps[layer], at)
        return torch.nn.functional.cosine_similarity(h, unit_vectors.to(h)[acts.index], dim=1)

    return Objective((layer,), score, len(vectors))


def look(maps: Tensor, at: Place) -> Tensor:
    """Maps (n, c, h, w) -> (n, c): their spatial mean, the values at the centre (h // 2, w // 2), or at (row, col)."""
    if at is None:
        return maps.mean((2, 3))
    row, column = (maps.shape[2] // 2, maps.shape[3] // 2) if at == "center" else at
    return maps[:, :, row, column]
