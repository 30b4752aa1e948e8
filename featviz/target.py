"""What a map over an image is to explain: a unit's activation, and its derivatives."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from .errors import UserError
from .layers import OUTPUT, infer_layout, layer_names, read, replaced
from .models import Model
from .objectives import Activations
from .trunk import Trunk
from .units import Unit, objective

# Images in one forward or backward pass.
BATCH = 16


class Target:
    """A unit of a model, as its activation on images: what a map is to explain. A class's is its logit."""

    def __init__(self, model: Model, unit: Unit) -> None:
        self.model, self.unit = model, unit
        self.trunk = Trunk(model, [unit.layer], fold=False)
        self._objective = objective([unit], self.trunk)

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
        """For a class, its probability (n,) beside the others'; None for any other unit."""
        if not self.unit.is_class or self.unit.vectors or self.unit.sign < 0:
            return None
        with torch.inference_mode():
            parts = [self.trunk(part.to(self.trunk.device))[OUTPUT].cpu() for part in torch.split(images, BATCH)]
        return torch.cat(parts).flatten(1).softmax(1)[:, self.unit.channel]

    def gradients(self, images: Tensor) -> Tensor:
        """The activation's derivative (n, channels, h, w) by the images' values in [0, 1]."""
        return torch.cat([self._gradient(part) for part in torch.split(images, BATCH)])

    def _gradient(self, images: Tensor) -> Tensor:
        # Whatever the caller has switched off.
        with torch.inference_mode(False), torch.enable_grad():
            seen = images.clone().requires_grad_()
            self(seen).sum().backward()  # type: ignore[no-untyped-call]
        return torch.zeros_like(images) if seen.grad is None else seen.grad.detach().cpu()

    def maps(self, layer: str, images: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's maps (n, channels, rows, columns), and the activation's derivative by them."""
        kept: list[Tensor] = []

        def leaf(output: Tensor) -> Tensor:
            kept.append(output.detach().requires_grad_())
            return kept[0].clone()

        network, size = self.trunk.network, self.trunk.preprocess.size
        with torch.inference_mode(False), torch.enable_grad(), replaced(network, layer, leaf):
            found = self(images.clone())
            (gradient,) = torch.autograd.grad(found.sum(), kept[0], allow_unused=True)
        layout = infer_layout(network, layer, kept[0], batch=len(images), size=size)
        gradient = torch.zeros_like(kept[0]) if gradient is None else gradient
        return layout.maps(kept[0].detach()).cpu(), layout.maps(gradient).cpu()

    @cached_property
    def last_map(self) -> str:
        """The last layer with a map, of more than one place, that the unit depends on: where class maps are read."""
        network, preprocess = self.trunk.network, self.trunk.preprocess
        inputs = torch.full((1, preprocess.channels, *preprocess.size), 0.5, device=self.trunk.device)
        names = [self.unit.layer] if self.unit.layer != OUTPUT else []
        with torch.inference_mode(), read(network, layer_names(network)) as outputs:
            network(preprocess.normalize(inputs))
        found = ""
        for name, output in outputs.items():
            try:
                maps = infer_layout(network, name, output, batch=1, size=preprocess.size).maps(output)
            except UserError:
                continue
            if maps.shape[2] * maps.shape[3] > 1:
                found = name
            if name in names:
                break
        if not found:
            raise UserError(f"no layer before {self.unit} has a map of places: class activation maps need one.")
        return found
