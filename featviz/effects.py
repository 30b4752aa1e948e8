"""The effect of one activation on every class: how much of each logit it accounts for, to first order."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .errors import UserError
from .layers import OUTPUT, Layout, find_layer, first_tensor, infer_layout, outputs_at, replaced
from .models import Model
from .pooling import relaxed_max_pools
from .trunk import Trunk, out_of_memory

# Classes that the fallback differentiates at once.
_CHUNK = 64


def class_effects(
    model: Model, layer: str, *, channels: Sequence[int] | None = None, relaxed: bool = False
) -> ClassEffects | None:
    """The effects of a layer's activations on the model's classes; None for a model without logits of classes."""
    try:
        return ClassEffects(model, layer, channels=channels, relaxed=relaxed)
    except NoClassesError:
        return None


class NoClassesError(UserError):
    """The network does not return one number per class."""


class ClassEffects:
    """(images, positions) -> h . grad_h logit for every class, h being a layer's activation at the position.

    All classes at once by one pass in forward mode: the layer's output becomes a dual number whose tangent is h at the
    position and 0 elsewhere, and the tangent of the logits is the answer. Where an operation has no forward derivative,
    by reverse mode, many classes at a time. Exact where the logits are linear in h, as at the last feature map; else a
    linear approximation (`linearity` says how good). Carter et al. 2019, "Activation Atlas", Distill.

    channels: of h, these alone count. relaxed: with a smooth derivative of max pooling (`relaxed_max_pools`).
    Raises `NoClassesError` for a network that does not return one number per class.
    """

    def __init__(
        self, model: Model, layer: str, *, channels: Sequence[int] | None = None, relaxed: bool = False
    ) -> None:
        find_layer(model.network, layer)
        if layer == OUTPUT:
            raise UserError("effects are those of a layer before the output; the output is the logits themselves.")
        self.layer, self.trunk = layer, Trunk(model, [layer, OUTPUT])
        classes, rows, columns = self.trunk.map_size(OUTPUT)
        if rows * columns != 1 or classes < 2:
            raise NoClassesError(f"{model.name} returns {classes} x {rows} x {columns} numbers: no logits of classes.")
        self.classes, self.relaxed = classes, relaxed
        self._layout = self._find_layout()
        size, _, _ = self.trunk.map_size(layer)
        self.channels = torch.arange(size) if channels is None else torch.tensor(list(channels))
        if not len(self.channels) or self.channels.min() < 0 or self.channels.max() >= size:
            raise UserError(f"layer {layer!r} has channels 0 to {size - 1}; got {self.channels.tolist()[:9]}.")
        self._forward, self._inside = True, False

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
        if n > 1 and k > 1 and not self._inside:
            try:
                return self._effects(images, self._place(flat), k).reshape(n, k, -1)
            except RuntimeError as error:
                if out_of_memory(error):
                    raise
                self._inside = True
        return self._effects(images.repeat_interleave(k, 0), self._place(flat), 1).reshape(n, k, -1)

    def summed(self, images: Tensor) -> Tensor:
        """Effects (n, classes) of whole images (n, channels, h, w) in [0, 1]: the sum over all positions, by one pass.

        Effects are linear in what they are the effects of, so that the sum is the effect of the layer's whole output.
        """
        return self._effects(images, (slice(None), self.channels.to(self.trunk.device)), 1)

    def linearity(self, images: Tensor, positions: Tensor, *, scale: float = 0.9) -> tuple[Tensor, Tensor]:
        """What effects predict and what happens, (n, classes) each, when one activation of each image is scaled.

        The logits' change once the activation at positions (n, 2) is multiplied by `scale`.
        """
        predicted = (scale - 1) * self(images, positions[:, None])[:, 0]

        place = self._place(positions)

        def scaled(maps: Tensor) -> Tensor:
            maps = maps.clone()
            self._layout.maps(maps)[place] *= scale
            return maps

        with torch.no_grad():
            before = self._logits(images)
            with self._replaced(scaled):
                after = self._logits(images)
        return predicted, after - before

    def _effects(self, images: Tensor, place: Any, each: int) -> Tensor:
        """(maps, classes): of what lies at `place` in the layer's maps, where each image's stands so many times."""
        # Tensors made in inference mode know no derivative.
        with torch.inference_mode(False):
            images = images.clone()
            if self._forward:
                try:
                    return self._by_forward_mode(images, place, each)
                except (NotImplementedError, RuntimeError) as error:
                    if not _has_no_forward_derivative(error):
                        raise
                    self._forward = False
            return self._by_reverse_mode(images, place, each)

    def _by_forward_mode(self, images: Tensor, place: Any, each: int) -> Tensor:
        def dual(maps: Tensor) -> Tensor:
            maps = maps.repeat_interleave(each, 0)
            tangent = torch.zeros_like(maps)
            self._layout.maps(tangent)[place] = self._layout.maps(maps)[place]
            return forward_ad.make_dual(maps, tangent)  # type: ignore[no-any-return, no-untyped-call]

        _load_forward_derivatives()
        # The fused kernels of attention have no forward derivative; the plain one has.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level(), self._replaced(dual):
            logits = self._logits(images)
            tangent = forward_ad.unpack_dual(logits).tangent  # type: ignore[no-untyped-call]
            return torch.zeros_like(logits) if tangent is None else tangent.clone()

    def _by_reverse_mode(self, images: Tensor, place: Any, each: int) -> Tensor:
        kept: list[Tensor] = []

        def watched(maps: Tensor) -> Tensor:
            kept.append(maps.detach().repeat_interleave(each, 0).requires_grad_())
            return kept[0].clone()

        with torch.enable_grad(), self._replaced(watched):
            logits = self._logits(images)
        maps = kept[0]
        here = self._layout.maps(maps.detach())[place]
        effects = []
        for chunk in torch.split(torch.eye(self.classes, device=logits.device), _CHUNK):
            wanted = chunk[:, None].expand(-1, len(logits), -1)
            (gradients,) = torch.autograd.grad(logits, maps, wanted, retain_graph=True, is_grads_batched=True)
            effects.append(
                torch.stack([(self._layout.maps(each)[place] * here).flatten(1).sum(1) for each in gradients], 1)
            )
        return torch.cat(effects, 1)

    def _logits(self, images: Tensor) -> Tensor:
        inputs = self.trunk.preprocess.normalize(images.to(self.trunk.device))
        return first_tensor(self.trunk.network(inputs.contiguous(memory_format=torch.channels_last)))

    def _place(self, positions: Tensor) -> Any:
        """The index of one position's channels in each of the maps."""
        device = self.trunk.device
        rows, columns = positions.to(device)[:, None].unbind(2)
        return (torch.arange(len(positions), device=device)[:, None], self.channels.to(device), rows, columns)

    @contextmanager
    def _replaced(self, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        with ExitStack() as changes:
            changes.enter_context(replaced(self.trunk.network, self.layer, change))
            if self.relaxed:
                changes.enter_context(relaxed_max_pools(self.trunk.network))
            yield

    def _find_layout(self) -> Layout:
        size = self.trunk.preprocess.size
        probe = torch.full((1, self.trunk.preprocess.channels, *size), 0.5, device=self.trunk.device)
        with torch.inference_mode():
            output = outputs_at(self.trunk.network, self.trunk.preprocess.normalize(probe), [self.layer])[self.layer]
        return infer_layout(self.trunk.network, self.layer, output, batch=1, size=size)


def _load_forward_derivatives() -> None:
    """Have torch load its forward derivatives, which on first use compiles some of them by what it calls deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*", category=FutureWarning)
        with forward_ad.dual_level():
            forward_ad.make_dual(torch.zeros(1), torch.zeros(1))  # type: ignore[no-untyped-call]


def _has_no_forward_derivative(error: Exception) -> bool:
    text = str(error).lower()
    words = ("forward ad", "forward mode", "jvp")
    return isinstance(error, NotImplementedError) or any(word in text for word in words)
