"""What a network answers: logits of classes, probabilities, features, or a map, and where its logits are read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .classifier import Classifier, find_classifier
from .errors import UserError
from .layers import OUTPUT
from .models import Model
from .result import Activation, sigmoids, values_say
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
        what = {"none": "logits", "features": "features, no classes"}.get(
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
    if grid != (1, 1):
        return Answer(stated or "none", OUTPUT, classes, grid, "stated" if stated else "a map")
    activation = stated or values_say(maps.flatten(1), seen)
    try:
        head: Classifier | None = find_classifier(model)
    except UserError:
        head = None
    if activation in ("softmax", "log_softmax", "sigmoid"):
        layer = head.name if head is not None and _of_this(model, images, head.name, activation) else OUTPUT
        return Answer(activation, layer, classes, grid, "stated" if stated else "its values")
    if stated is not None or activation == "features":
        return Answer(activation, OUTPUT, classes, grid, "stated" if stated else "of unit length")
    activation, layer, count, how = _logits_or_features(model, head, classes)
    return Answer(activation, layer, count, grid, how)


def _of_this(model: Model, images: Tensor, layer: str, activation: Activation) -> bool:
    """Whether the network's answer is the activation of what the layer returns."""
    trunk = Trunk(model, [layer, OUTPUT], fold=False)
    with torch.inference_mode():
        found = trunk(images.to(trunk.device))
    logits, result = found[layer].flatten(1), found[OUTPUT].flatten(1)
    ends = {"softmax": logits.softmax(1), "log_softmax": logits.log_softmax(1), "sigmoid": logits.sigmoid()}
    return logits.shape == result.shape and torch.allclose(ends[activation], result, atol=1e-4)


def _logits_or_features(model: Model, head: Classifier | None, classes: int) -> tuple[Activation, str, int, str]:
    """Numbers are logits where they have names, or come out of a linear layer in a network that does not deny it."""
    if len(model.labels) == classes:
        return "none", OUTPUT, classes, "they have names"
    if getattr(model.network, "num_classes", None) == 0:
        return "features", OUTPUT, classes, "the network says num_classes=0"
    if head is None or len(head.weight) != classes:
        return "features", OUTPUT, classes, "no linear layer makes them"
    return "none", OUTPUT, classes, f"{head.name} makes them"
