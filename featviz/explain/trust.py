"""How far a map over an image can be trusted: does what it marks matter, and does it hang on the network at all?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..network.copies import plain_copy
from ..seeds import generator_for
from .occlusion import filled
from .target import Target

# Points of a curve beside its start, and shuffled maps that it is held against.
_POINTS, _SHUFFLED = 10, 5
# Stages of the network that are randomised one after the other.
_STAGES = 6
# Maps of a larger rank correlation are much the same.
_ALIKE = 0.5


@dataclass(frozen=True, eq=False)
class Curve:
    """What happens as more and more of an image goes, or comes, in the order of a map.

    `shares`: (points,) of the pixels, from none to all; `values`: (points,) the class's probability, for other units
    the activation; `area`: their mean; `by_chance`: the mean area of the same map with its parts shuffled; `as_low`:
    the share of those shuffled maps whose area is as low or lower; `flat`: the map is the same everywhere and says
    nothing.
    """

    shares: Tensor
    values: Tensor
    area: float
    by_chance: float
    as_low: float
    flat: bool


def deletion(target: Target, image: Tensor, raw: Tensor, *, fill: str = "blur", seed: int = 0) -> Curve:
    """The image (channels, h, w) loses its pixels, those first that the map marks most: a good map falls fast.

    raw: the map at its own resolution (rows, columns), of pixels as the means of 28 x 28 parts; shuffled maps are its
    values in another order, as smooth as it.
    Petsiuk, Das and Saenko 2018, "RISE".
    """
    return _curve(target, image, filled(image[None], fill)[0], raw, seed)


def insertion(target: Target, image: Tensor, raw: Tensor, *, fill: str = "blur", seed: int = 0) -> Curve:
    """An image of nothing gets the image's pixels, those first that the map marks most: a good map rises fast."""
    return _curve(target, filled(image[None], fill)[0], image, raw, seed)


def _curve(target: Target, begin: Tensor, end: Tensor, raw: Tensor, seed: int) -> Curve:
    shares, places = torch.linspace(0, 1, _POINTS + 1), _coarse(raw)
    generator = generator_for(seed, "shuffled maps")
    ends = _said(target, torch.stack([begin, end]))

    def along(order: Tensor) -> Tensor:
        between = _said(target, _changed(begin, end, order, shares[1:-1], generator))
        return torch.cat([ends[:1], between, ends[1:]])

    values = along(places)
    areas = []
    for _ in range(_SHUFFLED):
        order = torch.randperm(places.numel(), generator=generator)
        areas.append(_area(along(places.flatten()[order].reshape(places.shape))))
    area = _area(values)
    as_low = sum(each <= area for each in areas) / len(areas)
    return Curve(shares, values, area, sum(areas) / len(areas), as_low, bool(raw.min() == raw.max()))


def _changed(begin: Tensor, end: Tensor, places: Tensor, shares: Tensor, generator: torch.Generator) -> Tensor:
    """Images in which shares of the pixels, by the map's order, are the end's in place of the beginning's.

    Equal pixels come in an order drawn by the generator.
    """
    size = (begin.shape[1], begin.shape[2])
    whole = F.interpolate(places[None, None], size, mode="bilinear")[0, 0].flatten()
    drawn = torch.randperm(len(whole), generator=generator)
    rank = torch.empty(len(whole), dtype=torch.long)
    rank[drawn[whole[drawn].argsort(descending=True, stable=True)]] = torch.arange(len(whole))
    changed = [(rank < round(float(share) * len(rank))).reshape(size) for share in shares]
    return torch.stack([torch.where(mask, end, begin) for mask in changed])


def _said(target: Target, images: Tensor) -> Tensor:
    """What the target says of images: a class its probability, any other unit its activation."""
    found = target.probabilities(images)
    return target.values(images) if found is None else found


def _coarse(raw: Tensor) -> Tensor:
    """A map of pixels as one of 28 or so places a side, which can be shuffled and stay as smooth as it was."""
    if max(raw.shape) <= 32:
        return raw
    return F.adaptive_avg_pool2d(raw[None, None], (min(28, raw.shape[0]), min(28, raw.shape[1])))[0, 0]


def _area(values: Tensor) -> float:
    return float(torch.trapezoid(values) / (len(values) - 1))


@dataclass(frozen=True, eq=False)
class Randomisation:
    """How alike a map stays as the network's weights become random, from the output to the input.

    `stages`: the modules whose weights have become random by then; `likeness`: the rank correlation with the real map.
    """

    stages: tuple[str, ...]
    likeness: tuple[float, ...]

    @property
    def ignores_weights(self) -> bool:
        """Whether the map of a wholly random network is still much like the real one."""
        return bool(self.likeness) and self.likeness[-1] > _ALIKE

    @property
    def ignores_upper_half(self) -> bool:
        """Whether it is so once half of the stages, those next to the output, are random."""
        return bool(self.likeness) and self.likeness[(len(self.likeness) - 1) // 2] > _ALIKE


def randomisation(
    target: Target, explain: Callable[[Target], Tensor], *, real: Tensor | None = None, seed: int = 0
) -> Randomisation:
    """The map of a target whose network loses what it has learned, stage by stage from the output.

    explain: target -> map. real: what it gives for the target as it is; None: it is asked. Each weight is put in
    another order within its tensor. Adebayo, Gilmer, Muelly, Goodfellow, Hardt and Kim 2018, "Sanity Checks for
    Saliency Maps": cascading randomisation.
    """
    real = explain(target) if real is None else real
    network = plain_copy(target.model.network)
    generator = generator_for(seed, "random weights")
    stages, likeness = [], []
    for name, modules in _stages(network):
        with torch.no_grad():
            for module in modules:
                for parameter in module.parameters(recurse=False):
                    order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                    parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
        found = explain(Target(target.model.over(network), target.unit))
        stages.append(name)
        likeness.append(rank_correlation(real, found))
    return Randomisation(tuple(stages), tuple(likeness))


def _stages(network: nn.Module) -> list[tuple[str, list[nn.Module]]]:
    """The modules with weights, from the last to the first, in `_STAGES` groups; each with its last one's name."""
    own = [(name, module) for name, module in network.named_modules() if any(True for _ in module.parameters(False))]
    own.reverse()
    each = max(1, -(-len(own) // _STAGES))
    groups = [own[start : start + each] for start in range(0, len(own), each)]
    return [(group[-1][0] or "input", [module for _, module in group]) for group in groups]


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's, of two maps of one size; 0 where one of them is flat."""
    ranks = [_ranks(each.flatten().double()) for each in (one, other)]
    found = float(torch.corrcoef(torch.stack(ranks))[0, 1])
    return found if found == found else 0.0


def _ranks(values: Tensor) -> Tensor:
    """Equal values share the mean of their places."""
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    places = counts.cumsum(0) - (counts + 1) / 2
    ranks: Tensor = places.double()[inverse]
    return ranks
