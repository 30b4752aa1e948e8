"""What a map over an image is to explain: a unit's activation, and its derivatives."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from ..draw.objectives import Activations, dot
from ..errors import UserError
from ..network.answer import answer_of
from ..network.copies import in_float32
from ..network.forward import told
from ..network.gradients import backward_told, no_gradient
from ..network.layers import OUTPUT, layer_names, read, replaced
from ..network.layout import first_tensor
from ..network.models import Model
from ..network.trunk import Trunk
from ..network.units import Unit

# Images in one forward or backward pass.
BATCH = 16
Result = TypeVar("Result")


class NotAllowedError(UserError):
    """A method does not apply to this unit or this network."""


def check_size(model: Model, image: Tensor) -> None:
    """Raise `UserError` unless an image (channels, h, w) has the model's own channels and input size."""
    wanted = (model.preprocess.channels, *model.preprocess.size)
    if tuple(image.shape) != wanted:
        raise UserError(f"{model.name} takes images of {wanted} (channels, height, width); got {tuple(image.shape)}.")


def fitting(model: Model, run: Callable[[], Result]) -> Result:
    """What a pass returns; a `UserError` that names the layer where the network takes no images of the model's size."""
    with told(model.name):
        return run()


class Target:
    """A unit of a model, as its activation on images: what a map is to explain. A class's is its logit.

    Of a network that ends in softmax or its logarithm, that is what the linear layer before it returns.
    """

    def __init__(self, model: Model, unit: Unit) -> None:
        self.model, self.unit = model, unit
        self._layer, channels = model.findings.look(
            f"where {unit.layer} is read", lambda: fitting(model, lambda: _read_at(model, unit.layer))
        )
        self.trunk = Trunk(model, [self._layer], fold=False)
        if not unit.vectors and not 0 <= unit.channel < channels:
            raise UserError(f"{unit.layer!r} has channels 0 to {channels - 1}; {unit} is none of them.")
        self._vector = unit.direction(channels)
        self._objective = dot(self._layer, self._vector[None], at=unit.position)

    def at(self, place: tuple[int, int]) -> Target:
        """The same at one place (row, column) of its layer's map, on the same copy of the network."""
        twin = copy.copy(self)
        vars(twin).pop("last_map", None)
        twin.unit = replace(self.unit, position=place)
        twin._objective = dot(self._layer, twin._vector[None], at=place)
        return twin

    def __call__(self, images: Tensor) -> Tensor:
        """Activations (n,) of images (n, channels, h, w) in [0, 1]."""
        images = images.to(self.trunk.device)
        index = torch.zeros(len(images), dtype=torch.long, device=images.device)
        return self._objective(Activations(self.trunk(images), images, index))

    def values(self, images: Tensor) -> Tensor:
        """The same on the CPU, in batches, without a derivative."""
        with torch.inference_mode():
            return torch.cat([self(part).cpu() for part in torch.split(images, BATCH)])

    def probabilities(self, images: Tensor) -> Tensor | None:
        """For a class, its probability (n,): the network's own, else by softmax; None for any other unit."""
        if not self.unit.is_class or self.unit.vectors or self.unit.sign < 0:
            return None
        with torch.inference_mode():
            parts = [self.trunk(part.to(self.trunk.device))[self._layer].cpu() for part in torch.split(images, BATCH)]
        values, answer = torch.cat(parts).flatten(1), answer_of(self.model)
        if not answer.are_classes or self.unit.position is not None or answer.grid != (1, 1):
            return None
        if self._layer == OUTPUT and answer.activation in ("softmax", "sigmoid"):
            return values[:, self.unit.channel]  # nothing linear to be read before it
        if answer.activation == "sigmoid":
            return values[:, self.unit.channel].sigmoid()
        return values.softmax(1)[:, self.unit.channel] if values.shape[1] > 1 else None

    def gradients(self, images: Tensor) -> Tensor:
        """The activation's derivative (n, channels, h, w) by the images' values in [0, 1]."""
        return torch.cat([self._gradient(part) for part in torch.split(images, BATCH)])

    def _gradient(self, images: Tensor) -> Tensor:
        # Whatever the caller has switched off.
        with torch.inference_mode(False), torch.enable_grad():
            seen = images.clone().requires_grad_()
            found = self(seen)
            if not found.requires_grad:
                raise no_gradient(self.model.name, self._layer)
            with backward_told(self.model.name):
                found.sum().backward()  # type: ignore[no-untyped-call]
        return torch.zeros_like(images) if seen.grad is None else seen.grad.detach().cpu()

    def maps(self, layer: str, images: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's maps (n, channels, rows, columns), and the activation's derivative by them."""
        kept: list[Tensor] = []

        def leaf(output: Tensor) -> Tensor:
            kept.append(output.detach().requires_grad_())
            return kept[0].clone()

        network = self.trunk.network
        layout = self.model.layouts.of(network, layer)
        with torch.inference_mode(False), torch.enable_grad(), replaced(network, layer, leaf, part=layout.part):
            found = self(images.clone())
            if not kept or not found.requires_grad:
                raise UserError(f"{self.unit} does not depend on layer {layer!r}: give one before it.")
            (gradient,) = torch.autograd.grad(found.sum(), kept[0], allow_unused=True)
        gradient = torch.zeros_like(kept[0]) if gradient is None else gradient
        layout = replace(layout, part=())
        values, slopes = (in_float32(layout.maps(each)).cpu() for each in (kept[0].detach(), gradient))
        return values, slopes

    def beside(self, layer: str, images: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's maps (n, channels, rows, columns) and those of the unit's own, on the CPU, without a derivative."""
        network = self.trunk.network
        layout = self.model.layouts.of(network, layer)
        with torch.inference_mode(), read(network, [layer]) as outputs:
            own = self.trunk(images.to(self.trunk.device))[self._layer]
        return layout.maps(outputs[layer]).cpu(), own.cpu()

    @cached_property
    def last_map(self) -> str:
        """The last layer with a map, of more than one place, that the unit depends on: where class maps are read."""
        preprocess = self.trunk.preprocess
        generator = torch.Generator().manual_seed(0)
        probe = torch.rand(1, preprocess.channels, *preprocess.size, generator=generator)
        names = self.model.findings.look(f"layers up to {self.unit.layer}", lambda: self._run_before(probe))
        for name in reversed(names):
            try:
                maps, gradient = self.maps(name, probe)
            except (UserError, RuntimeError):  # a layer beside the unit, or one whose output is used in place
                continue
            rows, columns = maps.shape[2:]
            # What attention keeps for each head and token looks like a map, of another shape than the image.
            if rows * columns == 1 or not 0.5 < (rows / columns) / (preprocess.size[0] / preprocess.size[1]) < 2:
                continue
            # Of a ViT's last block the class token alone matters: its map has no derivative.
            if gradient.abs().max() > 0:
                return name
        self.gradients(probe)  # says so where none passes through the network at all
        raise NotAllowedError(f"no layer before {self.unit} has a map of places: class activation maps need one.")

    def _run_before(self, probe: Tensor) -> list[str]:
        """The layers up to the unit's own that may be maps, in the order in which they run."""
        network = self.trunk.network
        with torch.inference_mode(), read(network, layer_names(network)) as outputs:
            network(self.trunk.preprocess.normalize(probe.to(self.trunk.device)))
        names = list(outputs)
        last = names.index(self.unit.layer) + 1 if self.unit.layer in outputs else len(names)
        return [name for name in names[:last] if _many_places(outputs[name])]


def _many_places(output: object) -> bool:
    try:
        return first_tensor(output).dim() in (3, 4)
    except UserError:
        return False


def _read_at(model: Model, layer: str) -> tuple[str, int]:
    """Where a layer's units are read, and its channels: the layer itself, for classes the one of the logits.

    Those are the output, or what the linear layer before a softmax, its logarithm or a sigmoid returns.
    """
    if layer == OUTPUT:
        answer = answer_of(model)
        return (answer.layer, answer.classes)
    return (layer, Trunk(model, [layer], fold=False).map_size(layer)[0])
