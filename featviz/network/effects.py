"""The effect of one activation on every class: what the logits lose when the usual activation stands in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import UserError
from .answer import answer_of
from .layers import OUTPUT, find_layer, replaced
from .models import Model
from .trunk import Trunk, out_of_memory


def class_effects(
    model: Model, layer: str, usual: Tensor, *, channels: Sequence[int] | None = None
) -> ClassEffects | None:
    """The effects of a layer's activations on the model's classes; None for a model without logits of classes."""
    try:
        return ClassEffects(model, layer, usual, channels=channels)
    except NoClassesError:
        return None


def usual_activation(model: Model, layer: str, views: Tensor) -> Tensor:
    """(c,) a layer's mean over all positions of views (n, channels, h, w) in [0, 1]."""
    trunk = Trunk(model, [layer])
    total, count = torch.zeros(trunk.map_size(layer)[0], dtype=torch.float64), 0
    with torch.inference_mode():
        for view in views:
            maps = trunk(view[None])[layer].double().cpu()
            total += maps.sum((0, 2, 3))
            count += maps.shape[2] * maps.shape[3]
    return (total / max(1, count)).float()


class NoClassesError(UserError):
    """The network does not return one number per class."""


class ClassEffects:
    """(images, positions) -> for every class, its logit less what it is with the usual activation at the position.

    That is what happens, not an estimate of it: the rest of the network runs once more for each position. A derivative,
    as in Carter et al. 2019, "Activation Atlas", estimates it to first order; at blocks.5 of EfficientNet-Lite0 the
    class that it names first is one of the five that change most in two of five cases.

    usual: (c,) what stands in an activation's place, such as `usual_activation`. channels: of the layer, these alone
    are replaced.
    Raises `NoClassesError` for a network that does not return one number per class.
    """

    def __init__(self, model: Model, layer: str, usual: Tensor, *, channels: Sequence[int] | None = None) -> None:
        find_layer(model.network, layer)
        if layer == OUTPUT:
            raise UserError("effects are those of a layer before the output; the output is the logits themselves.")
        self.layer, self.trunk = layer, Trunk(model, [layer, OUTPUT])
        classes, rows, columns = self.trunk.map_size(OUTPUT)
        if (rows * columns != 1 and len(model.labels) != classes) or classes < 2:
            raise NoClassesError(f"{model.name} returns {classes} x {rows} x {columns} numbers: no logits of classes.")
        if not answer_of(model).are_classes:
            raise NoClassesError(f"{model.name} returns {classes} features: no logits of classes.")
        self.classes = classes
        self._layout, self._answer = (self.trunk.layouts.of(self.trunk.network, name) for name in (layer, OUTPUT))
        size, _, _ = self.trunk.map_size(layer)
        self.channels = torch.arange(size) if channels is None else torch.tensor(list(channels))
        if not len(self.channels) or self.channels.min() < 0 or self.channels.max() >= size:
            raise UserError(f"layer {layer!r} has channels 0 to {size - 1}; got {self.channels.tolist()[:9]}.")
        if usual.shape != (size,):
            raise UserError(f"layer {layer!r} has {size} channels; the usual activation has {tuple(usual.shape)}.")
        self.usual = usual[self.channels]
        self._inside = False

    def __call__(self, images: Tensor, positions: Tensor) -> Tensor:
        """Effects (n, k, classes) of images (n, channels, h, w) in [0, 1] at k positions each (n, k, 2): row, column.

        The network up to the layer runs once for each image where that can be: where what follows takes nothing from
        before the layer, as inside a residual block it does.
        """
        n, k = positions.shape[:2]
        try:
            return self._of(images, positions)
        except RuntimeError as error:
            if not out_of_memory(error) or n * k == 1:
                raise
        # Copies of what follows the layer, one for each position, are more than a scan's batch was tried with.
        parts = (
            zip(images.tensor_split(2), positions.tensor_split(2))
            if n > 1
            else ((images, half) for half in positions.tensor_split(2, 1))
        )
        return torch.cat([self(*part) for part in parts], 0 if n > 1 else 1)

    def _of(self, images: Tensor, positions: Tensor) -> Tensor:
        n, k = positions.shape[:2]
        flat = positions.reshape(n * k, 2)
        if n > 1 and not self._inside:
            try:
                return self._effects(images, flat, k).reshape(n, k, -1)
            except RuntimeError as error:
                if out_of_memory(error):
                    raise
                self._inside = True
        before = self._logits(images, lambda maps: maps).repeat_interleave(k, 0)
        after = self._logits(images.repeat_interleave(k, 0), lambda maps: self._changed(maps, flat))
        return (before - after).reshape(n, k, -1)

    def _effects(self, images: Tensor, flat: Tensor, each: int) -> Tensor:
        """(n * each, classes): the maps as they are go on beside their copies with one position changed."""

        def beside(maps: Tensor) -> Tensor:
            return torch.cat([maps, self._changed(maps.repeat_interleave(each, 0), flat)])

        logits = self._logits(images, beside)
        if len(logits) != len(images) * (each + 1):
            raise RuntimeError("what follows the layer takes from before it")
        return logits[: len(images)].repeat_interleave(each, 0) - logits[len(images) :]

    def _changed(self, maps: Tensor, flat: Tensor) -> Tensor:
        """The maps (m, ...) with the usual activation at the positions (m, 2)."""
        maps = maps.clone()
        rows, columns = flat.to(maps.device)[:, None].unbind(2)
        place = (torch.arange(len(maps), device=maps.device)[:, None], self.channels.to(maps.device), rows, columns)
        replace(self._layout, part=()).maps(maps)[place] = self.usual.to(maps)
        return maps

    def _logits(self, images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        inputs = self.trunk.preprocess.normalize(images.to(self.trunk.device))
        with torch.no_grad(), replaced(self.trunk.network, self.layer, change, part=self._layout.part):
            result = self.trunk.network(inputs.contiguous(memory_format=torch.channels_last))
            # Of a class that has a place, as in segmentation, the mean over all places.
            return self._answer.maps(result).mean((2, 3))
