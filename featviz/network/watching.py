"""Watch a network run, and find out how its layers hold space and channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .layers import OUTPUT, as_network, outputs_at
from .layout import Grid, first_tensor, tensors
from .moves import Halves

Word = Literal["first", "last", ""]

_FIRST = (
    nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d, nn.LocalResponseNorm,
    nn.Upsample, nn.PixelShuffle, nn.PixelUnshuffle, nn.Dropout2d,
)  # fmt: skip
# What works on every number by itself leaves channels where they are.
_AS_GIVEN = (
    nn.Identity, nn.Dropout, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus,
)  # fmt: skip


@dataclass(frozen=True)
class Watched:
    """What a network did with random images.

    `outputs`: layer -> its output for two images; `halves`: for the first of them, for another image, and for the first
    with a half of the other; `words`: layer -> where the module that made the output holds its channels, `` where that
    is not known;
    `grids`: (rows, columns) of the maps that its convolutions made, in the order in which they ran; `tokens`: numbers
    of tokens that sequences had. `unsteady`: layers whose results differ from one pass to the next; `together`: whose
    result for an image depends on the other images of its batch. `linear`: where in the network's result is what a
    linear layer, or a 1 x 1 convolution, made.
    """

    outputs: dict[str, Any]
    halves: dict[str, Halves]
    words: dict[str, Word]
    grids: tuple[Grid, ...]
    tokens: frozenset[int]
    unsteady: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    linear: tuple[tuple[str | int, ...], ...] = ()


def watch(network: nn.Module, layers: Sequence[str], images: Tensor, other: Tensor) -> Watched:
    """Run a network on two images, one of them, another, and the one with its upper and its left half from the other.

    images: (2, channels, h, w), other: (1, channels, h, w), normalised. network: in eval mode; what it holds stays.
    """
    upper, left = other.clone(), other.clone()
    half_way = (images.shape[2] // 2, images.shape[3] // 2)
    upper[:, :, half_way[0] :] = images[:1, :, half_way[0] :]
    left[:, :, :, half_way[1] :] = images[:1, :, :, half_way[1] :]

    def run(inputs: Tensor, seed: int) -> dict[str, Any]:
        torch.manual_seed(seed)  # what is dropped at random has to be the same for an image and for its halves
        return outputs_at(network, as_network(inputs, network), layers)

    with torch.inference_mode(), torch.random.fork_rng():
        with _noting(network) as noted:
            outputs = run(images, 1)
        plain, whole, above, beside = (run(each, 0) for each in (images[:1], other, upper, left))
        differing = [name for name in layers if not _same(outputs[name], plain[name])]
        unsteady: tuple[str, ...] = ()
        if differing:
            again = run(images, 2)
            unsteady = tuple(name for name in differing if not _same(again[name], outputs[name]))
    return Watched(
        outputs,
        {name: Halves(plain[name], whole[name], above[name], beside[name]) for name in layers},
        {name: noted.word(name, outputs[name]) for name in layers},
        tuple(noted.grids),
        frozenset(noted.tokens),
        unsteady,
        tuple(name for name in differing if name not in unsteady),
        tuple(path for path, tensor in tensors(outputs.get(OUTPUT)) if id(tensor) in noted.linear),
    )


@dataclass
class _Noted:
    """What hooks on every module see in one pass."""

    words: dict[int, Word] = field(default_factory=dict)
    of_layers: dict[str, Word] = field(default_factory=dict)
    grids: list[Grid] = field(default_factory=list)
    tokens: set[int] = field(default_factory=set)
    linear: set[int] = field(default_factory=set)
    # Keeps every tensor, so that no id is given twice.
    alive: list[Tensor] = field(default_factory=list)

    def ran(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        try:
            tensor = first_tensor(output)
        except ValueError:
            return
        self.alive.append(tensor)
        given = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
        word = self.words.get(id(tensor), "")  # what a container returns as one of its parts made it
        if not word and isinstance(module, _AS_GIVEN) and given is not None:
            word = self.words.get(id(given), "")
        self.words[id(tensor)] = word = _own_word(module, tensor) or word
        self.of_layers.setdefault(name, word)
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)):
            self.linear.add(id(tensor))
        if tensor.dim() == 4 and isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
            grid = (tensor.shape[2], tensor.shape[3])
            if grid not in self.grids:
                self.grids.append(grid)
        if tensor.dim() == 3 and word != "first":
            self.tokens.add(tensor.shape[1])

    def word(self, name: str, output: Any) -> Word:
        if name == OUTPUT:
            return self.words.get(id(first_tensor(output)), "")
        return self.of_layers.get(name, "")


@contextmanager
def _noting(network: nn.Module) -> Iterator[_Noted]:
    noted, handles = _Noted(), []

    def hook(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: noted.ran(name, module, inputs, output)

    try:
        for name, module in network.named_modules():
            if name:
                handles.append(module.register_forward_hook(hook(name), prepend=True))
        yield noted
    finally:
        for handle in handles:
            handle.remove()


def _own_word(module: nn.Module, tensor: Tensor) -> Word:
    """Where the module itself holds the channels of what it returns."""
    if isinstance(module, _FIRST):
        return "first"
    if isinstance(module, nn.Linear):
        return "last"
    sizes = getattr(module, "normalized_shape", None)  # LayerNorm and what is made after it
    if sizes is not None and len(sizes) == 1 and tensor.dim() in (3, 4) and tensor.shape[1] != tensor.shape[-1]:
        fits = [word for word, where in (("first", 1), ("last", -1)) if tensor.shape[where] == sizes[0]]
        return fits[0] if len(fits) == 1 else ""  # type: ignore[return-value]
    return ""


def _same(two: Any, one: Any) -> bool:
    """Whether an image's output is the same in a batch and alone, or a batch's in two passes, but for rounding."""
    many, few = first_tensor(two), first_tensor(one)
    if many.dim() != few.dim() or not many.is_floating_point():
        return True  # what that means is told where its layout is looked for
    for dimension, (longer, shorter) in enumerate(zip(many.shape, few.shape, strict=True)):
        if longer != shorter:
            many = many.narrow(dimension, 0, min(longer, shorter))
    if many.shape != few.shape:
        return True
    exact = 1e-3 if many.dtype in (torch.float32, torch.float64) else 5e-2
    many, few = torch.nan_to_num(many.float()), torch.nan_to_num(few.float())
    return bool((many - few).abs().max() <= exact * max(float(few.abs().max()), 1e-6))
