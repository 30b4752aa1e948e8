"""A network whose head flattens -> one whose features are means of a map, so that class activation maps apply."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featviz.errors import UserError
from featviz.explain.target import Target
from featviz.network.copies import plain_copy
from featviz.network.layers import OUTPUT, outputs_at
from featviz.network.models import Model
from featviz.network.units import Unit
from featviz.progress import Progress, silent

from ..images.classes import class_map
from ..images.images import Images, open_images
from .scan import scan
from .statistics import PooledMaps

# Share of the labelled images that is held out, and images of a class that it takes.
_HELD_OUT, _LEAST = 0.2, 5


@dataclass(frozen=True, eq=False)
class PooledHead:
    """`model`: the network up to `layer`, global average pooling and a linear layer of the labelled classes.

    `accuracy`: on images held out; `original`: the whole network's own on the same images, None where its classes are
    not the labels (`class_map`); `images`: how many it was trained on; `held_out`: how many it was tested on.
    """

    model: Model
    layer: str
    accuracy: float
    original: float | None
    images: int
    held_out: int

    @property
    def line(self) -> str:
        """What was done, in words."""
        own = "" if self.original is None else f", the whole network's own head {self.original:.1%}"
        return (
            f"The head is a linear layer on the means of {self.layer}, trained on {self.images} images: of "
            f"{self.held_out} held out it names {self.accuracy:.1%} rightly{own}."
        )


def pooled_head(
    model: Model,
    images: str | Path | Images,
    *,
    layer: str | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress = silent,
) -> PooledHead:
    """Replace a network's head by global average pooling and a linear layer, trained on labelled images.

    layer: whose map is pooled; None: the last with a map. The features are worked out in one pass; the linear layer is
    a logistic regression on them. The model itself stays as it is. Zhou, Khosla, Lapedriza, Oliva and Torralba 2016,
    "Learning Deep Features for Discriminative Localization". Raises `UserError` for images without at least two classes
    of five images each.
    """
    source = open_images(images, model.preprocess)
    chosen = layer or Target(model, Unit(OUTPUT, 0)).last_map
    pooled = PooledMaps()
    scan(model, source, [chosen, OUTPUT], [pooled], workers=workers, progress=progress)
    state = pooled.state()
    features, logits = state[chosen].numpy(), state[OUTPUT].numpy()
    guesses, rows = logits.argmax(1), state["image"].numpy()
    labels, theirs = (np.array(each)[rows] for each in (source.labels, class_map(source, model.labels).labels))
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    classes = classes[counts >= _LEAST]
    if len(classes) < 2:
        raise UserError(
            f"a new head takes two or more classes of {_LEAST} labelled images; {source.source!r} has fewer."
        )
    kept = np.isin(labels, classes)
    features, guesses, labels, theirs = features[kept], guesses[kept], labels[kept], theirs[kept]
    held = np.zeros(len(labels), bool)
    generator = np.random.default_rng(seed)
    for label in classes:
        rows = generator.permutation(np.flatnonzero(labels == label))
        held[rows[: max(1, round(_HELD_OUT * len(rows)))]] = True
    weight, bias = _fitted(features[~held], np.searchsorted(classes, labels[~held]))
    found = (features[held] @ weight.T + bias).argmax(1)
    accuracy = float((classes[found] == labels[held]).mean())
    comparable = bool((theirs >= 0).all()) and logits.shape[1] > theirs.max()
    own = float((guesses[held] == theirs[held]).mean()) if comparable else None
    names = tuple(_name(source, model, int(label)) for label in classes)
    network = _Pooled(model, chosen, torch.from_numpy(weight), torch.from_numpy(bias))
    made = replace(model, name=f"{model.name} with a pooled head", network=network.eval(), labels=names)
    return PooledHead(made, chosen, accuracy, own, int((~held).sum()), int(held.sum()))


def _fitted(
    features: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(classes, features) weights and (classes,) bias of a logistic regression, on features as they are."""
    middle, spread = features.mean(0), features.std(0) + 1e-6
    from sklearn.linear_model import LogisticRegression  # a third of a second that no other command should wait for

    fit = LogisticRegression(max_iter=2000).fit((features - middle) / spread, labels)
    weight, bias = fit.coef_, fit.intercept_
    if len(weight) == 1:  # two classes: one boundary, of which each class has a side
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / spread
    return weight.astype(np.float32), (bias - weight @ middle).astype(np.float32)


class _Pooled(nn.Module):
    """A network up to a layer, the mean of its map, and a linear layer."""

    def __init__(self, model: Model, layer: str, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.trunk, self.layer = plain_copy(model.network), layer
        self.layout = model.layouts.of(self.trunk, layer)
        self.head = nn.Linear(weight.shape[1], len(weight))
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(bias)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.layout.maps(outputs_at(self.trunk, images, [self.layer])[self.layer])
        logits: Tensor = self.head(maps.mean((2, 3)))
        return logits


def _name(source: Images, model: Model, label: int) -> str:
    named = next((name for own, name in zip(source.labels, source.class_names, strict=True) if own == label), "")
    return named or model.class_name(label)
