"""What a network answers: logits of classes, probabilities, features, or a map, and where its logits are read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError
from .classifier import Classifier, find_classifier
from .layers import OUTPUT
from .models import Model
from .result import Activation, rectified, sigmoids, values_say
from .trunk import Trunk


@dataclass(frozen=True)
class Answer:
    """What a network's result is, and how that is known.

    `activation`: `none` for logits; `softmax`, `log_softmax` or `sigmoid` where the network ends in one; `features`
    where its numbers are no classes. `layer`: where the logits are read: `output`, or the linear layer before the
    activation. `classes`: how many numbers there are; `grid`: (rows, columns) of the places that each has, (1, 1) for
    none. `found`: how the activation is known.
    """

    activation: Activation
    layer: str
    classes: int
    grid: tuple[int, int]
    found: str

    @property
    def are_classes(self) -> bool:
        """Whether the numbers are those of classes, in whatever form."""
        return self.activation != "features"

    def __str__(self) -> str:
        many = "s" * (self.classes != 1)
        what = {"none": f"logit{many}", "features": f"feature{many}, no classes"}.get(
            self.activation, f"{self.activation} of logits"
        )
        places = "" if self.grid == (1, 1) else f" at {self.grid[0]} x {self.grid[1]} places"
        where = "" if self.layer == OUTPUT else f", logits read at {self.layer}"
        return f"{self.classes} {what}{places}{where} ({self.found})"


def answer_of(model: Model) -> Answer:
    """What the model's network answers, found out once."""
    return model.findings.look("answer", lambda: _found(model))


def refuse_features(model: Model, wanted: str) -> None:
    """Raise `UserError` where the network's numbers are no classes."""
    answer = answer_of(model)
    if not answer.are_classes:
        raise UserError(
            f"{wanted}: {model.name} returns {answer.classes} features, not classes ({answer.found}). Write "
            f"output:0 to output:{answer.classes - 1} for one of them. Where they are logits, "
            "Model.wrap(activation='none') says so."
        )


def _found(model: Model) -> Answer:
    trunk = Trunk(model, [OUTPUT], fold=False)
    images = torch.rand(
        2, model.preprocess.channels, *model.preprocess.size, generator=torch.Generator().manual_seed(0)
    )
    with torch.inference_mode(), sigmoids() as seen:
        maps = trunk(images.to(trunk.device))[OUTPUT]
    classes, grid = maps.shape[1], (maps.shape[2], maps.shape[3])
    stated = model.activation
    if stated is not None and grid != (1, 1):
        return Answer(stated, OUTPUT, classes, grid, "stated")
    activation = stated or values_say(maps, seen)
    head = None if grid != (1, 1) else _head(model)
    if activation in ("softmax", "log_softmax", "sigmoid"):
        layer = head.name if head is not None and _of_this(model, images, head.name, activation) else OUTPUT
        return Answer(activation, layer, classes, grid, "stated" if stated else "its values")
    if stated is not None or activation == "features":
        return Answer(activation, OUTPUT, classes, grid, "stated" if stated else "of unit length")
    activation, how = _logits_or_features(model, head, maps)
    return Answer(activation, OUTPUT, classes, grid, how)


def _head(model: Model) -> Classifier | None:
    try:
        return find_classifier(model)
    except UserError:
        return None


def _of_this(model: Model, images: Tensor, layer: str, activation: Activation) -> bool:
    """Whether the network's answer is the activation of what the layer returns."""
    trunk = Trunk(model, [layer, OUTPUT], fold=False)
    with torch.inference_mode():
        found = trunk(images.to(trunk.device))
    logits, result = found[layer].flatten(1), found[OUTPUT].flatten(1)
    ends = {"softmax": logits.softmax(1), "log_softmax": logits.log_softmax(1), "sigmoid": logits.sigmoid()}
    return logits.shape == result.shape and torch.allclose(ends[activation], result, atol=1e-4)


def _logits_or_features(model: Model, head: Classifier | None, maps: Tensor) -> tuple[Activation, str]:
    """Numbers are logits where they have names, a place, or come out of a linear layer, and nothing denies it."""
    classes = maps.shape[1]
    if len(model.labels) == classes:
        return "none", "they have names"
    if getattr(model.network, "num_classes", None) == 0:
        return "features", "the network says num_classes=0"
    if rectified(maps):
        return "features", "never below 0, as behind a ReLU"
    if maps.shape[2:] != (1, 1):
        return "none", "a map"
    if head is None or len(head.weight) != classes:
        return "features", "no linear layer makes them"
    return "none", f"{head.name} makes them"
