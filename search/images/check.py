"""Does a network see what it was made for? Its answers on labelled photographs, with its normalisation and others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from featviz.errors import UserError
from featviz.explain.target import Target
from featviz.network.answer import answer_of
from featviz.network.layers import OUTPUT
from featviz.network.models import IMAGENET_MEAN, IMAGENET_STD, Model, Preprocess
from featviz.network.units import Unit
from featviz.progress import Progress, silent

from .classes import class_map
from .decode import central_view
from .images import Images, open_images

# Usual ways to normalise images in [0, 1], (mean, deviation) of every channel.
_USUAL: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "ImageNet's": (IMAGENET_MEAN, IMAGENET_STD),
    "[-1, 1]": ((0.5,) * 3, (0.5,) * 3),
    "[0, 1]": ((0.0,) * 3, (1.0,) * 3),
    "[0, 255]": ((0.0,) * 3, (1 / 255,) * 3),
}
# So many standard errors better, another normalisation is the one that the network was trained with.
_BETTER = 2.5
# A network that is so sure of its answers, and so often wrong, is right about classes of other names.
_SURE, _WRONG = 0.5, 0.1
# As many right answers as those of a network that guesses have this probability or more: no sign of more than that.
_CHANCE = 0.01
_AT_ONCE = 8


@dataclass(frozen=True)
class Check:
    """What `check` found.

    `images`: how many labelled images were looked at; `accuracy`: the share whose class comes first; `confidence`: the
    mean probability of the class that comes first; `others`: of other normalisations, the accuracy; `notes`: what looks
    wrong, in words; none where nothing does.
    """

    images: int
    accuracy: float
    confidence: float
    others: Mapping[str, float]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        first = f"of {self.images} labelled images {self.accuracy:.0%} are named rightly, {self.confidence:.0%} sure"
        others = ", ".join(f"{name} {share:.0%}" for name, share in self.others.items())
        return "\n".join([first + (f"; with other normalisations: {others}" if others else ""), *self.notes])


def check(
    model: Model, images: str | Path | Images, *, count: int = 100, seed: int = 0, progress: Progress = silent
) -> Check:
    """Whether the network names labelled images rightly, and whether it would with another mean and deviation.

    A wrong mean or a wrong list of names gives pictures and atlases that look plausible; only photographs whose classes
    are known can tell. images: with names of classes. count: how many are looked at, drawn by seed.
    Raises `UserError` for a network whose numbers are no classes, and for images of none of its classes.
    """
    answer = answer_of(model)
    if not answer.are_classes or answer.grid != (1, 1) or answer.classes < 2:
        raise UserError(f"{model.name} returns {answer}: it has no classes to be right or wrong about.")
    source = open_images(images)
    found = class_map(source, model.labels)
    known = [number for number, label in enumerate(found.labels) if 0 <= label < answer.classes]
    if not known:
        raise UserError(f"none of the images of {source.source!r} is of a class of {model.name}.")
    chosen = np.random.default_rng(seed).permutation(known)[:count].tolist()
    views = [central_view(source.open(number), model.preprocess) for number in chosen]
    labels = torch.tensor([found.labels[number] for number in chosen])
    ways = {"": model.preprocess, **_other_ways(model.preprocess)}
    probabilities = {}
    for number, (name, how) in enumerate(ways.items()):
        progress("checking", number, len(ways))
        probabilities[name] = _probabilities(replace(model, preprocess=how), torch.stack(views))
    progress("checking", len(ways), len(ways))
    right = {name: found.argmax(1) == labels for name, found in probabilities.items()}
    own = right.pop("")
    confidence = float(probabilities[""].amax(1).mean())
    accuracy, others = float(own.float().mean()), {name: float(each.float().mean()) for name, each in right.items()}
    wrong = [*_better(own, right, ways), *_names(accuracy, confidence, len(labels))]
    notes = [*(wrong or _by_chance(int(own.sum()), len(labels), answer.classes)), *found.notes]
    return Check(len(labels), accuracy, confidence, others, tuple(notes))


def _other_ways(how: Preprocess) -> dict[str, Preprocess]:
    if how.channels != 3:
        return {}
    ways = {name: replace(how, mean=mean, std=std) for name, (mean, std) in _USUAL.items()}
    return {name: way for name, way in ways.items() if not _alike(way, how)}


def _alike(one: Preprocess, other: Preprocess) -> bool:
    return bool(np.allclose([*one.mean, *one.std], [*other.mean, *other.std], atol=0.01))


def _probabilities(model: Model, views: Tensor) -> Tensor:
    """(n, classes) of views (n, channels, h, w) in [0, 1]."""
    target, answer = Target(model, Unit(OUTPUT, 0)), answer_of(model)
    with torch.inference_mode():
        layer = answer.layer
        logits = torch.cat([target.trunk(part)[layer].flatten(1).cpu() for part in torch.split(views, _AT_ONCE)])
    if answer.layer == OUTPUT and answer.activation in ("softmax", "sigmoid"):
        return logits
    return logits.sigmoid() if answer.activation == "sigmoid" else logits.softmax(1)


def _better(own: Tensor, others: Mapping[str, Tensor], ways: Mapping[str, Preprocess]) -> list[str]:
    """A note on the other normalisation that names most more images rightly than the network's does."""
    best = max(others, key=lambda name: float(others[name].float().mean()), default=None)
    if best is None:
        return []
    gain = others[best].float() - own.float()
    error = float(gain.std()) / len(gain) ** 0.5 if len(gain) > 1 else 1.0
    if float(gain.mean()) < _BETTER * max(error, 1e-9) or float(gain.mean()) <= 0.02:
        return []
    how = ways[best]
    mean, std = (", ".join(f"{each:.3g}" for each in numbers) for numbers in (how.mean, how.std))
    return [
        f"normalised by {best} the network names {float(others[best].float().mean()):.0%} rightly, by what is stated "
        f"{float(own.float().mean()):.0%}: its mean and deviation seem to be wrong. Try mean=({mean}), std=({std})."
    ]


def _by_chance(right: int, images: int, classes: int) -> list[str]:
    """A note where a network names no more images rightly than one that guesses might."""
    from scipy.stats import binom

    if images < 10 or binom.sf(right - 1, images, 1 / classes) < _CHANCE:
        return []
    return [
        f"{right} right of {images} is what guessing among {classes} classes gives: the weights seem to be untrained, "
        "or the names of the classes, or the input, to be another network's."
    ]


def _names(accuracy: float, confidence: float, images: int) -> list[str]:
    """A note where a network that is sure of its answers is hardly ever right."""
    if confidence < _SURE or accuracy > _WRONG or images < 10:
        return []
    return [
        f"the network is {confidence:.0%} sure of its answers on average, and {accuracy:.0%} of them are right: the "
        "names of its classes seem to be in another order, or those of another network."
    ]
