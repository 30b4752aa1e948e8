"""Where in what a network returns its logits are, and what they are: logits, probabilities or features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..errors import UserError, closest
from .layout import tensors

Part = tuple[str | int, ...]
Activation = Literal["none", "softmax", "log_softmax", "sigmoid", "features"]
ACTIVATIONS: tuple[Activation, ...] = ("none", "softmax", "log_softmax", "sigmoid", "features")

# What frameworks call the numbers of the classes, and what they call features.
_LOGITS = ("logits", "out", "output", "outputs", "prediction", "predictions", "pred", "preds", "scores")
_FEATURES = ("image_embeds", "embeddings", "pooler_output", "features", "last_hidden_state")
_SIGMOIDS = {torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_, F.sigmoid, torch.special.expit}


def find_part(result: Any, made_linearly: Sequence[Part], *, classes: int, stated: str | int | None) -> Part:
    """Where the logits of a batch of two images are in what the network returns; () where that is a tensor.

    made_linearly: the places of what a linear layer made. classes: how many class names there are, 0 for none. stated:
    a key, a number, or several with dots between.
    Raises `UserError` for a result of several tensors that nothing tells apart, and for a place that is not there.
    """
    found = {path: tensor for path, tensor in tensors(result) if tensor.is_floating_point() and tensor.dim() >= 2}
    if stated is not None:
        return _stated(found, str(stated))
    if list(found) == [()] or not found:
        return ()
    of_images = {path: tensor for path, tensor in found.items() if len(tensor) == 2 and tensor.dim() <= 4}
    for name in _LOGITS:
        if (name,) in of_images:
            return (name,)
    for choice in (
        list(of_images),
        [path for path, tensor in of_images.items() if classes and tensor.shape[1] == classes],
        [path for path in made_linearly if path in of_images],
        [path for name in _FEATURES for path in of_images if path == (name,)][:1],
    ):
        if len(choice) == 1:
            return choice[0]
    if not of_images:
        raise UserError(
            f"the network returns {type(result).__name__} and in it no numbers of each image, as detectors do. Take a "
            "layer before, or Model.wrap(logits=...) if one of its results is meant."
        )
    told = ", ".join(f"{spelled(path)} {tuple(tensor.shape[1:])}" for path, tensor in of_images.items())
    raise UserError(
        f"the network returns several results ({told}), and nothing tells which are the logits. Say so: "
        f"Model.wrap(logits={_argument(next(iter(of_images)))})."
    )


def spelled(path: Part) -> str:
    """A place in a result as `logits=` takes it: keys and numbers with dots between."""
    return ".".join(map(str, path))


def _argument(path: Part) -> str:
    return str(path[0]) if len(path) == 1 and isinstance(path[0], int) else repr(spelled(path))


def _stated(found: dict[Part, Tensor], wanted: str) -> Part:
    names = {spelled(path): path for path in found}
    if wanted in names:
        return names[wanted]
    if list(names) == [""]:
        raise UserError(f"logits={wanted!r}: the network returns one tensor; leave logits= out.")
    near = ", ".join(map(repr, closest(wanted, list(names), 8)))
    raise UserError(f"logits={wanted!r} is not in what the network returns; it holds {near}.")


def values_say(maps: Tensor, sigmoids: Sequence[Tensor]) -> Activation:
    """What numbers (n, classes, h, w) are by themselves: probabilities, their logarithms, one for each, or none of it.

    sigmoids: what the network's sigmoids returned in the same pass.
    """
    if maps.shape[1] > 1:
        one = torch.ones(()).to(maps)
        for kind, shares in (("softmax", maps), ("log_softmax", maps.exp())):
            if torch.allclose(shares.sum(1), one, atol=1e-3) and (shares >= 0).all():
                return "softmax" if kind == "softmax" else "log_softmax"
    if any(each.numel() == maps.numel() and torch.equal(each.reshape(maps.shape), maps) for each in sigmoids):
        return "sigmoid"
    if maps.shape[1] > 1 and torch.allclose(maps.norm(dim=1), torch.ones(()).to(maps), atol=1e-3):
        return "features"  # of unit length, as embeddings are
    return "none"


def rectified(maps: Tensor) -> bool:
    """Whether numbers come out of a ReLU, as no logits do: none below 0, and some at 0 exactly."""
    return bool((maps >= 0).all() and (maps == 0).any() and (maps > 0).any())


@contextmanager
def sigmoids() -> Iterator[list[Tensor]]:
    """Inside the `with`, what every sigmoid returns is put into the list, a module's or a function's."""
    mode = _Sigmoids()
    with mode:
        yield mode.seen


class _Sigmoids(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _SIGMOIDS and isinstance(result, Tensor):
            self.seen.append(result)
        return result
