"""Class activation maps: a layer's maps, weighted by how much each matters to a unit."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UserError
from ..network.classifier import Classifier, classifier_at, feature_layer, find_classifier, same
from ..network.models import Model
from .target import NotAllowedError, Target

# The question whose answer is a layer and the classifier that gets its maps' means.
_POOLED = "whose means are classified"


def cam(target: Target, image: Tensor) -> tuple[Tensor, str]:
    """The last feature map, weighted by the class's weights in the final layer: what each place adds to the logit.

    Needs a network whose features are means of a map. Zhou, Khosla, Lapedriza, Oliva and Torralba 2016, "Learning Deep
    Features for Discriminative Localization".
    """
    unit = target.unit
    if not unit.is_class or unit.vectors:
        raise NotAllowedError(f"CAM explains classes by their weights; {unit} is none: Grad-CAM (gradcam) does it.")
    findings = target.model.findings
    layer, name = findings.look(_POOLED, lambda: _search(target.model))
    maps, classifier, adds_up = _read(target, image, layer, name)
    if not adds_up:  # to the weights of then, two layers may have been the same
        layer, name = findings.keep(_POOLED, _search(target.model))
        maps, classifier, _ = _read(target, image, layer, name)
    return torch.einsum("chw,c->hw", maps, classifier.weight[unit.channel] * unit.sign), f"at {layer}"


def _read(target: Target, image: Tensor, layer: str, name: str) -> tuple[Tensor, Classifier, bool]:
    """A layer's maps of an image, the classifier, and whether the maps' means are what it makes the logits of."""
    maps, logits = target.beside(layer, image)
    classifier = classifier_at(target.trunk.network, name, exact=True)
    means = maps.mean((2, 3))
    fits = means.shape[1] == classifier.weight.shape[1]
    return maps[0], classifier, fits and same(means @ classifier.weight.T + classifier.bias, logits)


def _search(model: Model) -> tuple[str, str]:
    """The layer whose maps' means are the features, and the classifier that gets them; `NotAllowedError` for none."""
    try:
        classifier = find_classifier(model)
        layer = feature_layer(model, classifier) if classifier.exact else None
    except UserError as error:
        raise NotAllowedError(f"{error} Grad-CAM (gradcam) does without.") from error
    if layer is None:
        raise NotAllowedError(
            f"CAM needs features that are means of a map, and those of {model.name} are none: Grad-CAM "
            "(gradcam) does without."
        )
    return layer, classifier.name


def grad_cam(target: Target, image: Tensor, *, layer: str = "") -> tuple[Tensor, str]:
    """A layer's maps, each weighted by the mean of the activation's derivative by it; what is positive of the sum.

    layer: by default the last with a map. Of a unit at a place, each place by its own derivative, since a mean over
    places would lose it. Selvaraju et al. 2017, "Grad-CAM".
    """
    layer = layer or target.last_map
    maps, gradients = target.maps(layer, image)
    if target.unit.position is not None:
        return _by_place(maps, gradients), f"at {layer}, each place by its own derivative"
    return _weighted(maps, gradients.mean((2, 3))), f"at {layer}"


def grad_cam_pp(target: Target, image: Tensor, *, layer: str = "") -> tuple[Tensor, str]:
    """Grad-CAM whose weights count the places that raise the activation, each by how far it alone explains it.

    The layer's values count as far as they are above zero, as after a rectifier, which the method takes for granted.
    Chattopadhay, Sarkar, Howlader and Balasubramanian 2018, "Grad-CAM++".
    """
    layer = layer or target.last_map
    maps, gradients = target.maps(layer, image)
    if target.unit.position is not None:
        return _by_place(maps, gradients), f"at {layer}, each place by its own derivative, as Grad-CAM"
    return plus_plus_map(maps, gradients), f"at {layer}"


def plus_plus_map(maps: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM++'s map (rows, columns) of a layer's maps and an activation's derivative by them, (1, channels, ...)."""
    return _weighted(maps, _plus_plus(maps, gradients, gradients.square(), gradients**3))


def smooth_grad_cam_pp(
    target: Target, image: Tensor, *, layer: str = "", samples: int = 16, noise: float = 0.15, seed: int = 0
) -> tuple[Tensor, str]:
    """Grad-CAM++ with derivatives that are means over noisy copies of the image.

    samples, noise: how many, and the noise's deviation as a share of the image's range. Omeiza, Speakman, Cintas and
    Weldermariam 2019, "Smooth Grad-CAM++".
    """
    layer = layer or target.last_map
    maps, _ = target.maps(layer, image)
    generator = torch.Generator().manual_seed(seed)
    spread = noise * float(image.max() - image.min())
    copies = image + spread * torch.randn(samples, *image.shape[1:], generator=generator)
    gradients = torch.cat([target.maps(layer, copy[None])[1] for copy in copies])
    powers = [(gradients**power).mean(0, keepdim=True) for power in (1, 2, 3)]
    note = f"{samples} copies with noise of {noise:g}"
    if target.unit.position is not None:
        return _by_place(maps, powers[0]), f"at {layer}, each place by its own derivative, as Grad-CAM; {note}"
    return _weighted(maps, _plus_plus(maps, *powers)), f"at {layer}; {note}"


def _plus_plus(maps: Tensor, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """(n, channels) weights from the derivatives' first three powers."""
    # Derivatives of a thousandth are usual: in single precision their third powers would drown.
    first, second, third, values = (each.double() for each in (first, second, third, maps.relu()))
    below = 2 * second + (third * values).sum((2, 3), keepdim=True)
    alpha = torch.where(below != 0, second / torch.where(below != 0, below, 1.0), 0.0)
    return (alpha * first.relu()).sum((2, 3)).float()


def _by_place(maps: Tensor, gradients: Tensor) -> Tensor:
    return (maps * gradients)[0].sum(0).relu()


def _weighted(maps: Tensor, weights: Tensor) -> Tensor:
    return torch.einsum("chw,c->hw", maps[0], weights[0]).relu()
