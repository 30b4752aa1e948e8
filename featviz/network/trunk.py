"""The part of a network that a layer needs, copied, frozen and made fast: what every scan and every picture runs on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..errors import UserError
from .copies import frozen_copy, in_float32, own_dtype, runnable
from .forward import out_of_memory as out_of_memory
from .forward import told
from .gradients import gradients_on
from .layers import find_layer, outputs_at, split_token
from .layout import Layout
from .models import Model
from .resize import patched_size, resized
from .tokens import of_token

Precision = Literal["float32", "bfloat16"]

# Largest relative deviation that folding may cause at a layer before it is undone.
FOLDING_TOLERANCE = 1e-4


class Trunk:
    """Images (n, c, h, w) in [0, 1] -> the outputs of `layers`, each (n, channels, rows, columns).

    Works on a copy of the network: eval mode, no weight takes a gradient, channels_last, BatchNorm folded into the
    convolution before it (checked at the layers, exact to 1e-4, else left as it was). The forward pass stops at the
    last layer. Images of a size that the network does not take are resized to the size it was made for.

    resizes: smaller images than those that the network takes go through a twin of it for whole patches of about their
    size, where it is a vision transformer (see `resize`), which costs far less; maps then have fewer places.
    precision: `bfloat16` runs the network under autocast; activations come back in float32 all the same. compiled: the
    network's parts before and between the layers go through torch.compile.
    """

    @gradients_on()  # weights made in a caller's inference mode could take part in no backward pass
    def __init__(
        self,
        model: Model,
        layers: Sequence[str],
        *,
        fold: bool = True,
        precision: Precision = "float32",
        compiled: bool = False,
        resizes: bool = False,
    ) -> None:
        if precision not in ("float32", "bfloat16"):
            raise UserError(f"the precision is float32 or bfloat16; got {precision!r}.")
        for name in layers:
            find_layer(model.network, name)
        self.layers = tuple(layers)
        self.preprocess = model.preprocess
        self.device = model.device
        network = runnable(frozen_copy(model.network), model.device)
        self.name, self.dtype, self.folded = model.name, own_dtype(network), 0
        if fold and self.layers:
            with told(self.name):
                network, self.folded = _folded(network, self.layers, self._probe(*model.preprocess.size))
        self.network = _channels_last(network.to(model.device))
        self.layouts = model.layouts
        # Before anything is hooked to the network, or compiled. What has no layout is told of when it is asked for.
        for name in self.layers:
            with suppress(UserError, RuntimeError), told(self.name):
                self.layouts.of(self.network, name, beside=self.layers)
        self.precision, self.compiled = precision, compiled
        if compiled:
            _compile_parts(self.network, self.layers)
        self._at: dict[tuple[int, int], dict[str, Layout]] = {}
        self._sizes: dict[tuple[int, int], tuple[int, int]] = {}
        self._resizes, self._twin_sizes = resizes, dict[tuple[int, int], tuple[int, int]]()
        self._twins: dict[tuple[int, int], nn.Module] = {}

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Activations by layer name for images (n, c, h, w) in [0, 1], differentiable with respect to them."""
        if not self.layers:
            return {}
        given = (images.shape[-2], images.shape[-1])
        size = self.input_size(given)
        if size != given:
            images = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=size < given)
        network, layouts = self._twins.get(size, self.network), self._layouts(size)
        inputs = self.preprocess.normalize(images).to(self.dtype).contiguous(memory_format=torch.channels_last)
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")
        with told(self.name), half:
            outputs = outputs_at(network, inputs, self.layers)
        return {name: _full(layouts[name].maps(output)) for name, output in outputs.items()}

    def _layouts(self, size: tuple[int, int]) -> dict[str, Layout]:
        """How each layer is laid out for images of a size."""
        if size not in self._at:
            network = self._twins.get(size, self.network)
            with told(self.name):
                for name in self.layers:  # at its own size, which a twin does not take
                    self.layouts.of(self.network, name, beside=self.layers)
                self._at[size] = {
                    name: of_token(self.layouts.of(network, name, size=size, beside=self.layers), network, name)
                    for name in self.layers
                }
        return self._at[size]

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """`size` itself where the network takes images of it, else the size that the network was made for.

        Of a trunk that resizes its network, the nearest that a twin takes.
        """
        if size == self.preprocess.size:
            return size
        if size not in self._sizes:
            self._sizes[size] = size if self._takes(self.network, size) else self.preprocess.size
        if self._sizes[size] == size or not self._resizes:
            return self._sizes[size]
        if size not in self._twin_sizes:
            self._twin_sizes[size] = self._with_twin(size)
        return self._twin_sizes[size]

    def _takes(self, network: nn.Module, size: tuple[int, int]) -> bool:
        try:
            with torch.inference_mode():
                outputs_at(network, self._probe(*size).to(self.device), self.layers)
        except (RuntimeError, AssertionError, ValueError) as error:
            if out_of_memory(error):
                raise
            return False
        return True

    def _with_twin(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size near `size` that a twin of the network takes, which is made; else the network's own."""
        own = self.preprocess.size
        near = patched_size(self.network, size, own)
        if near is None or near in self._twins:
            return near or own
        try:
            twin = resized(self.network, near)
        except (RuntimeError, AssertionError, ValueError, TypeError):
            return own
        if not self._takes(twin, near):
            return own
        if self.compiled:
            _compile_parts(twin, self.layers)
        self._twins[near] = twin
        return near

    def map_size(self, layer: str, size: tuple[int, int] | None = None) -> tuple[int, int, int]:
        """(channels, rows, columns) of a layer's output for images of `size`, by default the network's own."""
        with torch.inference_mode():
            maps = self(torch.full((1, self.preprocess.channels, *(size or self.preprocess.size)), 0.5).to(self.device))
        return (maps[layer].shape[1], maps[layer].shape[2], maps[layer].shape[3])

    def _probe(self, height: int, width: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(1, self.preprocess.channels, height, width, generator=generator)


def _full(maps: Tensor) -> Tensor:
    """In float32, whatever the network's own type or autocast's."""
    return in_float32(maps)


def _compile_parts(network: nn.Module, layers: Sequence[str], prefix: str = "") -> None:
    """Compile, in place, the largest parts that neither are nor hold a layer that is read.

    A compiled part ignores hooks that come later, so what is read by a hook stays as it is.
    """
    layers = [split_token(layer)[0] for layer in layers]
    for name, part in network.named_children():
        path = f"{prefix}{name}"
        holds_layer = any(layer == path or layer.startswith(f"{path}.") for layer in layers)
        if holds_layer or isinstance(part, (nn.ModuleList, nn.ModuleDict)):
            _compile_parts(part, layers, f"{path}.")
        else:
            part.compile()


def _channels_last(network: nn.Module) -> nn.Module:
    # Not .to(memory_format=...), which refuses weights of five dimensions.
    for weight in network.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return network


def _folded(network: nn.Module, layers: Sequence[str], probe: Tensor) -> tuple[nn.Module, int]:
    """A copy with BatchNorm folded where the probe shows that a convolution feeds it, and how many were folded.

    The pairs are found by watching one forward pass, which works for any Python in `forward`; a convolution whose
    output is used elsewhere too would change the layers' outputs, and then the network is given back as it was.
    """
    probe = probe.to(next(network.parameters(), probe))
    with torch.inference_mode():
        before = outputs_at(network, probe, layers)
        pairs = _conv_norm_pairs(network, probe, layers)
    twin = frozen_copy(network)
    modules = dict(twin.named_modules())
    for conv_name, norm_name in pairs:
        _fold_pair(twin, modules, conv_name, norm_name)
    with torch.inference_mode():
        after = outputs_at(twin, probe, layers)
    same = all(_close(before[name], after[name]) for name in layers)
    return (twin, len(pairs)) if same else (network, 0)


def _conv_norm_pairs(network: nn.Module, probe: Tensor, layers: Sequence[str]) -> list[tuple[str, str]]:
    makers: dict[int, str] = {}
    alive: list[Any] = []  # keeps every output, so that no id is given twice
    pairs: list[tuple[str, str]] = []
    handles = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(module, nn.Conv2d):
                makers[id(output)] = name
                alive.append(output)
            elif inputs and id(inputs[0]) in makers and makers[id(inputs[0])] not in layers:
                pairs.append((makers[id(inputs[0])], name))

        return hook

    try:
        for name, module in network.named_modules():
            if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
                handles.append(module.register_forward_hook(watch(name)))
        outputs_at(network, probe, layers)
    finally:
        for handle in handles:
            handle.remove()
    runs = [name for pair in pairs for name in pair]
    # A norm's own parts vanish when it is folded, so it stays where one of them is read.
    inside = {name.rpartition(".")[0] for name in layers}
    return [pair for pair in pairs if runs.count(pair[0]) == runs.count(pair[1]) == 1 and pair[1] not in inside]


def _fold_pair(network: nn.Module, modules: dict[str, nn.Module], conv_name: str, norm_name: str) -> None:
    conv, norm = modules[conv_name], modules[norm_name]
    if (
        not (isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d))
        or conv._parameters.get("weight") is None  # what works it out before each pass would do so again
        or norm.running_mean is None
        or norm.running_var is None
    ):
        return
    conv.weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    conv.bias = nn.Parameter(bias.detach(), requires_grad=False)
    conv.weight.requires_grad_(False)
    # timm's BatchNormAct2d is a BatchNorm2d that also drops out and activates.
    rest = [part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if part is not None]
    network.set_submodule(norm_name, nn.Sequential(*rest))


def _close(before: Any, after: Any) -> bool:
    if not (isinstance(before, Tensor) and isinstance(after, Tensor)):
        return False
    scale = before.abs().max().clamp(min=1e-6)
    return bool((before - after).abs().max() <= FOLDING_TOLERANCE * scale)
