"""What is checked of a network with random weights, each against something plain and slow."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from featviz import Model, maximize
from featviz.draw import objectives
from featviz.errors import UserError
from featviz.network.answer import answer_of
from featviz.network.classifier import find_classifier
from featviz.network.effects import ClassEffects, NoClassesError
from featviz.network.trunk import Trunk

# Rounding grows in thirty blocks of random weights; another place is a hundred times as far away.
_CLOSE = 5e-3
_STEPS = 16


class Refused(Exception):  # noqa: N818  (an answer, not an error)
    """The toolkit says in words that it will not do it."""


def _default(model: Model, layer: str) -> None:
    """A layer is named where the user names none, and it has places."""
    if not layer:
        raise AssertionError("no layer is looked at where nobody names one")
    try:
        _, rows, columns = Trunk(model, [layer]).map_size(layer)
    except UserError as error:
        raise Refused(error) from error
    if rows * columns < 4:
        raise AssertionError(f"{layer} has a map of {rows} x {columns}")


def _read(model: Model, layer: str) -> None:
    """The maps hold what a plain hook sees; a quarter of an image that changes shows in that quarter of the map."""
    images = _noise(model)
    try:
        trunk = Trunk(model, [layer])
        maps = trunk(images)[layer]
    except UserError as error:
        raise Refused(error) from error
    seen = _hooked(model, layer, images)
    own = maps.permute(0, 2, 3, 1).flatten(1, 2)  # (n, places, channels)
    if not _holds(seen, own):
        raise AssertionError(f"maps {tuple(maps.shape)} are not in what a hook sees {tuple(seen.shape)}")
    rows, columns = maps.shape[2:]
    if rows < 2 or columns < 2:
        return
    shares = torch.stack([(trunk(each)[layer] - maps[:1]).abs().mean((0, 1)) for each in _quarters(images)])
    shares = shares / shares.sum(0)  # of all that changes at a place
    for number, share in enumerate(shares):
        seen_in = torch.stack([quarter.mean() for quarter in _four(share)])
        # Behind attention with random weights, and thirty wide convolutions, every place shows the whole image.
        if int(seen_in.argmax()) != number and seen_in.max() > 1.1 * seen_in.min():
            raise AssertionError(f"quarter {number} of the image shows in quarter {int(seen_in.argmax())}")


def _quarters(images: Tensor) -> Iterator[Tensor]:
    """The first image with each of its quarters from the second."""
    for number in range(4):
        changed = images[:1].clone()
        list(_four(changed))[number].copy_(list(_four(images[1:]))[number])
        yield changed


def _four(maps: Tensor) -> Iterator[Tensor]:
    """The quarters of maps (..., rows, columns), without the places in the middle."""
    rows, columns = maps.shape[-2] // 2, maps.shape[-1] // 2
    for down in (slice(rows), slice(-rows, None)):
        for across in (slice(columns), slice(-columns, None)):
            yield maps[..., down, across]


def _drawn(model: Model, layer: str) -> None:
    """A few steps take a picture above where it began.

    What networks with random weights like best is fine noise, which neither noisy views nor other sizes leave: so the
    picture is drawn and judged as it is.
    """
    try:
        alive = int(Trunk(model, [layer])(_noise(model))[layer].mean((0, 2, 3)).argmax())
        first, last = (
            float(
                maximize(
                    model,
                    objectives.channel(layer, alive),
                    size=model.preprocess.size[0],
                    steps=steps,
                    transform=lambda views, generators: views,
                    seed=0,
                ).clean[0]
            )
            for steps in (1, _STEPS)
        )
    except UserError as error:
        raise Refused(error) from error
    if not last > first:
        raise AssertionError(f"{_STEPS} steps reach {last:.4g}, one {first:.4g}")


def _effects(model: Model, layer: str) -> None:
    """What every class loses is what the network gives less what it gives with one activation changed by a hook."""
    image = torch.rand(1, model.preprocess.channels, *model.preprocess.size, generator=torch.Generator().manual_seed(1))
    try:
        trunk = Trunk(model, [layer])
        channels, rows, columns = trunk.map_size(layer)
        effects = ClassEffects(model, layer, torch.zeros(channels))
        found = effects(image, torch.tensor([[[rows // 2, columns // 2]]]))[0, 0]
    except NoClassesError as error:
        raise Refused(error) from error
    except UserError as error:
        raise Refused(error) from error
    place = trunk(image)[layer][0, :, rows // 2, columns // 2]
    network = copy.deepcopy(model.network).eval()

    def without(module: nn.Module, given: Any, output: Any) -> Any:
        if without.ran:  # type: ignore[attr-defined]
            return None
        without.ran = True  # type: ignore[attr-defined]
        parts = [output] if isinstance(output, Tensor) else list(output)
        number = next(i for i, part in enumerate(parts) if isinstance(part, Tensor) and part.shape[0] == 1)
        parts[number] = _zeroed(parts[number], place)
        return parts[0] if isinstance(output, Tensor) else type(output)(parts)

    without.ran = False  # type: ignore[attr-defined]
    inputs = model.preprocess.normalize(image)
    with torch.no_grad():
        before = network(inputs)
        handle = network.get_submodule(layer).register_forward_hook(without)
        after = network(inputs)
        handle.remove()
    expected = (before - after)[0]
    scale = max(float(expected.abs().max()), 1e-3 * float(before.abs().max()))
    if (found - expected).abs().max() > 0.02 * scale:
        raise AssertionError(f"effects differ by {float((found - expected).abs().max()):.3g} of {scale:.3g}")


def _head(model: Model, layer: str) -> None:
    """The linear layer that is found is the one that the network says is its classifier."""
    if not answer_of(model).are_classes:
        raise Refused(answer_of(model))
    try:
        head = find_classifier(model)
    except UserError as error:
        raise Refused(error) from error
    own = model.network.get_classifier() if hasattr(model.network, "get_classifier") else None
    named = [own] if isinstance(own, nn.Module) else list(own) if isinstance(own, (tuple, list, nn.ModuleList)) else []
    weights = [
        each.weight.flatten(1)
        for module in named
        for each in module.modules()
        if isinstance(each, nn.Linear | nn.Conv2d)  # a head's norms are no classifiers
    ]
    if weights and not any(
        weight.shape == head.weight.shape and torch.equal(weight, head.weight) for weight in weights
    ):
        raise AssertionError(f"{head.name} is not what the network calls its classifier")


CHECKS: dict[str, Callable[[Model, str], None]] = {
    "default": _default,
    "read": _read,
    "drawn": _drawn,
    "effects": _effects,
    "head": _head,
}


def _noise(model: Model) -> Tensor:
    """Two random images in [0, 1]."""
    how = model.preprocess
    return torch.rand(2, how.channels, *how.size, generator=torch.Generator().manual_seed(1))


def _hooked(model: Model, layer: str, images: Tensor) -> Tensor:
    """The first tensor of images that the layer puts out, by a hook on the network as it is."""
    seen: list[Any] = []
    handle = model.network.get_submodule(layer).register_forward_hook(
        lambda module, given, output: seen.append(copy.deepcopy(output))  # the next layer may work in place
    )
    try:
        with torch.no_grad():
            model.network(model.preprocess.normalize(images))
    finally:
        handle.remove()
    parts = [seen[0]] if isinstance(seen[0], Tensor) else list(seen[0])
    found: Tensor = next(part for part in parts if isinstance(part, Tensor) and part.shape[0] == len(images))
    return found.detach()


def _holds(seen: Tensor, vectors: Tensor) -> bool:
    """Whether what was seen (n, ...) holds each vector (n, places, channels) along one of its dimensions."""
    for dimension in range(1, seen.dim()):
        every = seen.movedim(dimension, -1).flatten(1, -2)
        if every.shape[2] != vectors.shape[2] or every.shape[1] < vectors.shape[1]:
            continue
        apart = torch.cdist(vectors.double(), every.double()).amin(2)
        if apart.max() <= _CLOSE * vectors.norm(dim=2).max():
            return True
    return False


def _zeroed(tensor: Tensor, vector: Tensor) -> Tensor:
    """The tensor (1, ...) with the vector, which is found along one of its dimensions, put to 0."""
    for dimension in range(1, tensor.dim()):
        if tensor.shape[dimension] != len(vector):
            continue
        moved = tensor.clone().movedim(dimension, -1)
        apart = (moved - vector).norm(dim=-1)
        if apart.min() <= _CLOSE * float(moved.norm(dim=-1).max()):
            moved[apart == apart.min()] = 0
            return moved.movedim(-1, dimension)
    raise AssertionError("the activation is nowhere in what the layer returns")
