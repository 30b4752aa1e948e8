"""What units are called: exemplars and a vocabulary -> a name with evidence for each unit, or none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from featviz.network.layers import OUTPUT
from featviz.progress import Progress, silent

from ..naming.naming import CHOOSING, LEAST_CHECKING, Evidence, Name, closest_names, name_units, split
from ..naming.vocabulary import Concepts, Labels, Predictions, Vocabulary
from .exemplars import Exemplars

# Of the ten images that excite a unit most, the share that its name has to be true of: less than of a cell's, since a
# channel often means several things, and so much that nobody who sees its strongest images wonders at the name.
UNIT_SHARE = 0.3
# What the AUROC of a unit's name has to be at the least, by the lower end of its interval: what is hardly better than
# chance is no name, however sure it is that it is better.
UNIT_LOW = 0.6
# Images with a name, below which too few are left to check by.
LEAST = math.ceil(LEAST_CHECKING / (1 - CHOOSING))


@dataclass(frozen=True)
class UnitName:
    """A unit's `name`, None where none holds; `closest`: (name, fit) of what fits best, best first, unchecked."""

    name: Name | None
    closest: tuple[tuple[str, float], ...] = ()


def names(
    found: Exemplars, *, vocabulary: Vocabulary | None = None, seed: int = 0, progress: Progress = silent
) -> dict[tuple[str, int], UnitName]:
    """Name every unit of a pass by what it did on a sample of the images: (layer, channel) -> its name.

    vocabulary: where names come from; default: the images' labels where they have any, else the network's own classes.
    A name is chosen on two fifths of the images and checked on the others.
    Raises `UserError` where the vocabulary knows too few of the images.
    """
    vocabulary = vocabulary or default_vocabulary(found)
    made: dict[tuple[str, int], UnitName] = {}
    concepts: Concepts | None = None
    sampled: list[int] = []
    for layer, known in found.layers.items():
        numbers = known.sampled.tolist()
        if concepts is None or numbers != sampled:
            concepts, sampled = vocabulary.of(found.images, numbers, progress=progress), numbers
        values = _comparable(known.sample, layer)[:, concepts.known]
        members = concepts.members[concepts.known]
        chooses, checks = split(len(members), seed)
        whole = Evidence(values, members)
        own = name_units(
            Evidence(values[:, chooses], members[chooses]),
            Evidence(values[:, checks], members[checks]),
            concepts,
            share=UNIT_SHARE,
        )
        for channel, (name, near) in enumerate(zip(own, closest_names(whole, concepts), strict=True)):
            held = name if name is not None and name.low >= UNIT_LOW else None
            made[layer, channel] = UnitName(held, tuple(near))
    return made


def enough(labels: Sequence[int]) -> bool:
    """Whether so many images have a label that names can be chosen and checked by them."""
    return sum(label >= 0 for label in labels) >= LEAST


def default_vocabulary(found: Exemplars) -> Vocabulary:
    """Names by the images' labels where they have any, else by what the network takes them for."""
    return Labels() if any(label >= 0 for label in found.images.labels) else Predictions(found.model)


def _comparable(sample: torch.Tensor, layer: str) -> NDArray[np.float32]:
    """(units, images): values that can be compared between images.

    A network's answers mean something only beside each other, so that they are taken as log-probabilities.
    """
    values = sample.float()
    return (values.log_softmax(1) if layer == OUTPUT and values.shape[1] > 1 else values).T.numpy()
